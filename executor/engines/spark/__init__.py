"""The Spark engine: the only room that knows PySpark and py4j. Importing the room itself imports neither."""
