package manifest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/jsonfile"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Name is the file's, in the store's folder.
const Name = "MANIFEST"

const (
	// mostBytes bounds the file: some 300 bytes a partition, of 100 years in many classes.
	mostBytes = 64 << 20
	// crowdedBytes is what compaction leaves it with at most: what comes in needs room in it, too, and a file that is larger than mostBytes
	// counts as damaged.
	crowdedBytes = mostBytes / 4
	// mostLosses bounds the list of what was found missing.
	mostLosses = 1000
)

var (
	// ErrDamaged is returned for a file whose checksum is wrong or that is no manifest.
	ErrDamaged = errors.New("the manifest is damaged")
	// ErrVersion is returned for a file that a newer version wrote.
	ErrVersion = errors.New("the manifest is from a newer version")
)

// Content is what the file has.
type Content struct {
	ID seglog.ID `json:"id"` // the store's
	// Since is when the list was begun. Why is why it was begun then; "" for a store that
	// was new.
	Since time.Time `json:"since"`
	Why   string    `json:"why,omitempty"`
	// Parts are the partitions that there are. A name is there once.
	Parts []Part `json:"partitions"`
	// Dropped counts the partitions that were deleted on purpose.
	Dropped Dropped `json:"dropped"`
	// Batch is a lower bound of the store's last batch. A store whose last batch is less
	// was put back to an older copy.
	Batch uint64 `json:"batch"`
	// Journal is what is known of the journal's segments.
	Journal seglog.Known `json:"journal"`
	// Forgot is when a host was first taken off the list of hosts: its records are stored
	// and are no longer counted under any host. Zero: never.
	Forgot time.Time `json:"forgot,omitzero"`
	// Holds is the number of the last change of the list of holds (collector/internal/hold); 0:
	// there never was one.
	Holds uint64 `json:"holds,omitempty"`
	// HoldsHash is the SHA-256 of that list, hexadecimal; "" where it is not known.
	HoldsHash string `json:"holds_sha256,omitempty"`
	// Replaced are the partitions whose events compaction has put into others: a file of that name
	// that is there, or comes back, is never read beside these.
	Replaced []Replaced `json:"replaced,omitempty"`
	// Numbers is, by day, the greatest number that a part of the day has had, where compaction has
	// numbered one: it is not used again.
	Numbers map[string]int `json:"numbers,omitempty"`
	// Lost is what was found missing or set aside, and has not been dealt with.
	Lost []Loss `json:"lost,omitempty"`
}

// Part is a partition. All but Name and Unmarked is as it was when the partition was
// sealed, and zero while it is written.
type Part struct {
	Name   string `json:"name"`             // as store.Part's String
	First  uint64 `json:"first,omitempty"`  // its first batch with events
	Batch  uint64 `json:"batch,omitempty"`  // the last batch, by its own state
	Events uint64 `json:"events,omitempty"` // in it
	// Records of these, and the most hosts of a batch: 0 in lists of before.
	Records uint64 `json:"records,omitempty"`
	Hosts   uint64 `json:"hosts,omitempty"`
	MinMs   int64  `json:"min_ms,omitempty"` // of its events
	MaxMs   int64  `json:"max_ms,omitempty"`
	// Unmarked says that the file has no store's ID: it is older than the ID.
	Unmarked bool `json:"unmarked,omitempty"`
	// Compacted says that compaction has made it.
	Compacted bool `json:"compacted,omitempty"`
}

// Replaced is a partition that was rewritten, as it was then.
type Replaced struct {
	Name   string    `json:"name"`
	First  uint64    `json:"first,omitempty"`
	Batch  uint64    `json:"batch,omitempty"`
	Events uint64    `json:"events,omitempty"`
	By     []string  `json:"by"` // the partitions that have its events
	At     time.Time `json:"at"`
	Import string    `json:"import,omitempty"` // the import that it was of; "" in lists of before, too
}

// Dropped is what retention has deleted.
type Dropped struct {
	Count uint64    `json:"count"`
	Last  string    `json:"last,omitempty"` // the partition deleted last
	At    time.Time `json:"at,omitzero"`
}

// Loss is something that answers may lack.
type Loss struct {
	Part  string    `json:"partition,omitempty"` // that is missing
	File  string    `json:"file,omitempty"`      // that was set aside, relative to the store
	Text  string    `json:"text"`                // what was found, for people
	Found time.Time `json:"found"`
	MinMs int64     `json:"min_ms,omitempty"` // of the events, where that is known
	MaxMs int64     `json:"max_ms,omitempty"`
	// Records is how many there were, where that is known, and Hosts of how many hosts.
	Records uint64 `json:"records,omitempty"`
	Hosts   uint64 `json:"hosts,omitempty"`
	Batch   uint64 `json:"batch,omitempty"` // the last of its batches, where that is known
}

// Held returns how the list of holds is.
func (c *Content) Held() store.Held {
	h := store.Held{Generation: c.Holds}
	if b, err := hex.DecodeString(c.HoldsHash); err == nil && len(b) == len(h.Hash) {
		h.Hash = [32]byte(b)
	}
	return h
}

// SetHeld notes how the list of holds is.
func (c *Content) SetHeld(h store.Held) {
	c.Holds, c.HoldsHash = h.Generation, ""
	if h.Hash != [32]byte{} {
		c.HoldsHash = hex.EncodeToString(h.Hash[:])
	}
}

// NewID makes an ID at random.
func NewID() (id seglog.ID) {
	_, _ = rand.Read(id[:]) // never fails (crypto/rand since Go 1.24)
	return id
}

// Part returns a partition's entry, to be read or changed; nil when it is not listed. The
// next Set or Remove may move the entries.
func (c *Content) Part(name string) *Part {
	if i := slices.IndexFunc(c.Parts, func(p Part) bool { return p.Name == name }); i >= 0 {
		return &c.Parts[i]
	}
	return nil
}

// Set lists a partition, in place of the entry of the same name where there is one.
func (c *Content) Set(p Part) {
	if old := c.Part(p.Name); old != nil {
		*old = p
		return
	}
	c.Parts = append(c.Parts, p)
}

// ReplacedBy returns the note of a partition that was rewritten, to be read; nil where there is none, or
// where the name is listed again.
func (c *Content) ReplacedBy(name string) *Replaced {
	i := slices.IndexFunc(c.Replaced, func(r Replaced) bool { return r.Name == name })
	if i < 0 || c.Part(name) != nil {
		return nil
	}
	return &c.Replaced[i]
}

// Replace notes that a partition was rewritten: it is off the list, and by has its events.
func (c *Content) Replace(was Part, imported string, by []string, at time.Time) {
	c.Remove(was.Name)
	c.Replaced = slices.DeleteFunc(c.Replaced, func(r Replaced) bool { return r.Name == was.Name })
	c.Replaced = append(c.Replaced, Replaced{Name: was.Name, First: was.First, Batch: was.Batch, Events: was.Events, By: by, At: at, Import: imported})
}

// Moved returns how many events of an import's partitions others have: it cannot be taken back as far as that.
func (c *Content) Moved(imported string) (events uint64) {
	for i := range c.Replaced {
		if c.Replaced[i].Import == imported {
			events += c.Replaced[i].Events
		}
	}
	return events
}

// ForgetReplaced takes off the notes of those partitions none of whose events is there any more.
func (c *Content) ForgetReplaced() {
	there := map[string]bool{} // what is listed, and what was rewritten into such
	for _, p := range c.Parts {
		there[p.Name] = true
	}
	for more := true; more; {
		more = false
		for _, r := range c.Replaced {
			if !there[r.Name] && slices.ContainsFunc(r.By, func(by string) bool { return there[by] }) {
				there[r.Name], more = true, true
			}
		}
	}
	c.Replaced = slices.DeleteFunc(c.Replaced, func(r Replaced) bool { return !there[r.Name] })
}

// A name's line in the file, and what a partition has there, at most.
const (
	lineBytes = 40
	partBytes = 10 * lineBytes
)

// bytes returns what the list takes in the file, at most.
func (c *Content) bytes() int {
	n := len(c.Parts)*partBytes + len(c.Numbers)*lineBytes
	for i := range c.Replaced {
		n += (8 + len(c.Replaced[i].By)) * lineBytes
	}
	return n
}

// Crowded reports whether the list is so long that compaction must not make it longer.
func (c *Content) Crowded() bool { return c.bytes() > crowdedBytes }

// Room returns how many partitions may be added of what was imported. It leaves a half of what compaction may add to the days that
// senders' events make: who imports chooses of how many days that has events.
func (c *Content) Room() int { return max(0, (crowdedBytes/2-c.bytes())/partBytes) }

// Number notes that a part of a day has a number, which no other part of it gets any more.
func (c *Content) Number(day string, n int) {
	if c.Numbers == nil {
		c.Numbers = map[string]int{}
	}
	c.Numbers[day] = max(c.Numbers[day], n)
}

// Remove takes a partition off the list.
func (c *Content) Remove(name string) {
	c.Parts = slices.DeleteFunc(c.Parts, func(p Part) bool { return p.Name == name })
}

// AddLoss adds a loss, unless one with the same partition, file and text is there. Beyond
// mostLosses it adds none.
func (c *Content) AddLoss(l Loss) {
	for _, o := range c.Lost {
		if o.Part == l.Part && o.File == l.File && o.Text == l.Text {
			return
		}
	}
	if len(c.Lost) < mostLosses {
		c.Lost = append(c.Lost, l)
	}
}

var kind = jsonfile.Kind{Head: "auditfleet manifest ", Version: 1, Most: mostBytes, Damaged: ErrDamaged, Newer: ErrVersion}

// Encode returns the file's bytes.
func (c *Content) Encode() ([]byte, error) { return kind.Encode(c) }

// Decode is the reverse of Encode. Errors: ErrVersion, ErrDamaged.
func Decode(b []byte) (*Content, error) {
	c := &Content{}
	if err := kind.Decode(b, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Load reads the manifest of the store in dir. Errors: fs.ErrNotExist, ErrDamaged,
// ErrVersion, and others of the filesystem.
func Load(f fsys.FS, dir string) (*Content, error) {
	path := filepath.Join(dir, Name)
	b, err := kind.Read(f, path)
	if odd := (*fsys.UnsafeError)(nil); errors.As(err, &odd) && odd.Fix == "" {
		return nil, fmt.Errorf("%w: put the store's own file there, or move this away: then the next start begins another", err)
	}
	if err != nil {
		return nil, err
	}
	c, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Save replaces the manifest in dir by c, durably: after a crash the file is the old one or
// the new one, and whole.
func Save(f fsys.FS, dir string, c *Content) error {
	b, err := c.Encode()
	if err != nil {
		return err
	}
	return fsys.ReplaceOn(f, filepath.Join(dir, Name), b, 0o600)
}

// File is the manifest of a store that is open. Any number of goroutines may use it: each
// Update holds mu until the file is durable, so changes are made one after the other, and
// none is lost.
type File struct {
	fs  fsys.FS
	dir string

	mu sync.Mutex // guards c, and the writing of the file
	c  Content    // as it was written last
}

// NewFile returns the manifest of the store in dir, with c as its content. Nothing is
// written: Update and Write do that.
func NewFile(f fsys.FS, dir string, c *Content) *File { return &File{fs: f, dir: dir, c: *c} }

// Content returns a copy of the content, which the caller may change.
func (m *File) Content() Content {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.c.clone()
}

// clone copies the content with all slices that Update's fn may change in place.
func (c *Content) clone() Content {
	out := *c
	out.Parts, out.Lost = slices.Clone(c.Parts), slices.Clone(c.Lost)
	out.Journal.Dropping = slices.Clone(c.Journal.Dropping)
	out.Replaced, out.Numbers = slices.Clone(c.Replaced), maps.Clone(c.Numbers)
	return out
}

// Update has fn change the content and makes it durable. When fn changes nothing, nothing
// is written. After an error Content is as it was before, and the file may be either the
// old one or the new one. fn must not call methods of m.
func (m *File) Update(fn func(*Content)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.c.clone()
	fn(&c)
	if reflect.DeepEqual(c, m.c) {
		return nil
	}
	if err := Save(m.fs, m.dir, &c); err != nil {
		return fmt.Errorf("say in the manifest what the store has: %w", err)
	}
	m.c = c
	return nil
}

// Write writes the content as it is, changed or not.
func (m *File) Write() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Save(m.fs, m.dir, &m.c)
}

// SetAside renames a manifest that cannot be used, and returns its new name within dir;
// "" when there is none, which is no error.
func SetAside(dir string, now time.Time) (name string, err error) {
	name = fmt.Sprintf("%s.corrupt-%d", Name, now.UnixNano())
	err = os.Rename(filepath.Join(dir, Name), filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return name, err
}
