"""The broker over Redis or Valkey, and what publishes to it from outside."""
