"""The targets, a file each: ``TARGET`` says where to begin and what reads the bytes."""
