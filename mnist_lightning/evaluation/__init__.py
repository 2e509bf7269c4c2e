"""What a run is judged by: gate, verdict, statistics, the files that it leaves, figures of a trained network."""
