"""The routes of the API, a file per subject. They read through `queries` and write through `store`."""
