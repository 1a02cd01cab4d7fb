"""The monitor's side of the broker: its threads, connections and queues. What events mean is the tracker's."""
