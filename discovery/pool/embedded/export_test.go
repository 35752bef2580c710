package embedded

// Tombstones counts those in the file.
func (s *Store) Tombstones() int { return s.local.Load().f.tombstones() }
