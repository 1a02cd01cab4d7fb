"""Pages of the jobs API: runs, dead letters, definitions of jobs, and schedules.

They are loaded with the jobs API. They read its database; whatever they change is a request to the API itself, so that
its rules hold for pages as well.
"""
