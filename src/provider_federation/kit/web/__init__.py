"""What the portal's and the instance's web processes share: typed JSON routes, the ASGI rim, health answers."""
