"""The gRPC services that a router serves to gateways, workers and operators."""
