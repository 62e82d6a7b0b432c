"""The interface to clients: REST, WebSocket, health, Prometheus, the web page (API.md, WEBSOCKET.md).

run.py    the process and its ports
http/     every address with its handler and who may call it (routes.py, openapi.yaml), the parsing of requests, the
          form of answers, the page
access/   checks before a handler: tokens, rate limits, client addresses, origins
rest/     one module for each group of addresses
trials/   rules tried on stored minutes, in a process of its own
live/     WebSocket: clients, their conversations, and the messages that many clients share
state/    its data: the topics it follows (follower.py -> feeds.py), the latest metrics as one matrix
          (latest.py), the database; parts.py connects all of it
"""
