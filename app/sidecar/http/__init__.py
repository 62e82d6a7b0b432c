"""The web application: routes, the parsing of requests, the form of answers, the page."""
