"""LeRobot data sets as they lie in a folder: what ``meta/`` says, the rows, the pictures. Without LeRobot itself."""
