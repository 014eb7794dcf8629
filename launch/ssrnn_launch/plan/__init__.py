"""What a run will take, before it is submitted: memory, time, dollars and energy for several numbers of workers."""
