"""Helpers of the tests: fixtures for real servers, market data, waiting for conditions."""
