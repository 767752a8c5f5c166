package store

import "errors"

var (
	// ErrGap is returned by Append for a batch whose ID is not the last one's plus one.
	ErrGap = errors.New("a batch before this one is missing")
	// ErrInUse is returned by Open when another process has the store, and by Drop
	// for the part that is being written.
	ErrInUse = errors.New("the store is in use")
	// ErrReadOnly is returned by what changes a store that was opened to read.
	ErrReadOnly = errors.New("the store is open for reading only")
	// ErrNotOurs is returned by Open for files that are not a store's.
	ErrNotOurs = errors.New("not an auditfleet store")
	// ErrVersion is returned for a store that a newer version wrote.
	ErrVersion = errors.New("the store is from a newer version")
	// ErrDamaged is returned, with file and place, for bytes whose checksum or structure
	// is wrong, and for files that should be there and are not.
	ErrDamaged = errors.New("the store is damaged")
	// ErrNoDay is returned by Drop for a part that is not there.
	ErrNoDay = errors.New("nothing is stored of that day")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the store is closed")
)
