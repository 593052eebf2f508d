"""What every comparison needs: the library, the data, interleaved measurement, the report and its picture."""
