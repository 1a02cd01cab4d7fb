"""Who may do what: connections and their keys, sign-in and sessions, and the checks on each request."""
