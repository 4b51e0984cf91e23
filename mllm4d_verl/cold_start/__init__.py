"""Cold start: several reasoning paths per question, scored by the training reward, the better ones kept."""
