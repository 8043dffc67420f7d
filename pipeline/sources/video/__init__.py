"""Reading of video files by time. Its modules load FFmpeg, so `video_source` imports them only when needed."""
