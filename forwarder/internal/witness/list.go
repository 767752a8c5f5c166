package witness

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// Kept is what a host keeps.
type Kept struct {
	Held      []*Held
	Incidents []*Incident // the oldest first
	Damaged   []string    // files that can't be read
}

// Read reads what a host keeps, by the folder of its spool. A forwarder may be writing meanwhile.
func Read(spool string) (k Kept, err error) {
	dir := filepath.Join(spool, Dir)
	held, badHeld, err := readHeld(dir)
	incidents, bad, ierr := readIncidents(dir)
	if err = errors.Join(err, ierr); err != nil {
		return k, err
	}
	k.Held, k.Incidents = held, incidents
	for path := range badHeld {
		k.Damaged = append(k.Damaged, path)
	}
	for path := range bad {
		k.Damaged = append(k.Damaged, path)
	}
	slices.Sort(k.Damaged)
	slices.SortStableFunc(k.Held, func(a, b *Held) int { return b.Seen.Compare(a.Seen) })
	return k, nil
}

// Days returns the last checkpoint of each day before the last one, the oldest first.
func Days(spool, store string) ([]Day, error) { return readDays(filepath.Join(spool, Dir), store) }

// Verified says how a checkpoint's key is known.
func (h *Held) Verified() string {
	if h.Given {
		return "seal_keys"
	}
	return "first use"
}

// Describe says for people what is kept and what was found, by the folder of a spool: wrong is what
// nobody has accepted.
func Describe(spool string) (held, wrong []string, err error) {
	k, err := Read(spool)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, h := range k.Held {
		server := "?"
		if len(h.Servers) > 0 {
			server = word(h.Servers[0].Name)
		}
		held = append(held, fmt.Sprintf("%s: %d leaves of store %s, signed %s by %s (%s)", server, h.Size, h.Store, h.Time.UTC().Format(time.RFC3339), word(keyID(h.Key)), h.Verified()))
	}
	for _, i := range k.Incidents {
		if !i.Accepted && i.Alarm() {
			wrong = append(wrong, fmt.Sprintf("%s: %s (%s, %s, evidence %s)", word(i.Server), i.Text, i.Op, stampOf(i.When), i.ID))
		}
	}
	for _, path := range k.Damaged {
		wrong = append(wrong, path+" is damaged")
	}
	return held, wrong, err
}
