"""The data worker: walks, dumps and recovers directory trees."""
