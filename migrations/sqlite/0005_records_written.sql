-- Records that were written at a later time than now are found at once: the clock was set back since.
CREATE INDEX records_written ON records (kind, updated_ms) WHERE due_ms IS NOT NULL;
