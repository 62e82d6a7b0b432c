"""The web application: routes, requests read, answers worded, the page."""
