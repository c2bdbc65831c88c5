"""The Provider Portal: one service that calls all client instances, sums what they say, and bills the clients."""
