"""Films: what video files hold, by time. Only what reads one imports these, so that nothing else loads FFmpeg."""
