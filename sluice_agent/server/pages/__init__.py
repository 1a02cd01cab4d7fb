"""The pages: HTML that the server renders, for people. Each page has a file with its route and what it shows.

A template shows the values of one view and decides nothing. The script only fetches the same page again.
"""
