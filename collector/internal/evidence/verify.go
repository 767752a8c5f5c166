package evidence

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// Bounds of what is read into memory at once, whatever a folder has. A bundle that would be beyond them is not made
// (ErrTooLarge).
const (
	maxManifest = 1 << 20
	maxQuery    = 64 << 20 // 200,000 hosts with the longest names
	maxLine     = 64 << 20 // of events.jsonl and proofs.jsonl
	maxText     = 64 << 20 // of an event
)

// Report is what Verify found out.
type Report struct {
	Query      Query
	SignedBy   string                // whose signature the manifest has; "" for none
	Checkpoint checkpoint.Checkpoint // zero where there is none
	Proved     int64                 // events that stood in the log at the checkpoint
	Unproved   int64
	Compacted  int64    // of the proved ones, those that are proved as compaction has written them again
	Others     []string // files in the folder that are none of the bundle's
}

// Verify checks a bundle with the public keys of collectors. Errors: ErrChanged, ErrBundle, and those of the
// filesystem. Without one, what the bundle says is what the collector said that signed it, and Proved events
// stood in its log.
func Verify(dir string, keys []note.Verifier) (*Report, error) {
	v := &verifier{dir: dir, keys: note.VerifierList(keys...), rep: &Report{}, batches: map[uint64][]known{}}
	defer v.close()
	for _, step := range []func() error{v.manifest, v.listed, v.query, v.checkpoint, v.events, v.proofs, v.counted} {
		if err := step(); err != nil {
			return v.rep, err
		}
	}
	return v.rep, nil
}

// Look reads what a bundle says of itself, unverified.
func Look(dir string) (*Summary, error) {
	v := &verifier{dir: dir, rep: &Report{}}
	text, err := v.small(Manifest, maxManifest)
	if err != nil {
		return nil, err
	}
	b, err := v.small(QueryFile, maxQuery)
	if err != nil {
		return nil, err
	}
	s := &Summary{Signed: bytes.Contains(text, []byte("\n\n"))}
	if info, err := os.Lstat(filepath.Join(dir, Pieces)); err == nil { // version 1 has none
		s.Pieces = info.Size()
	}
	return s, decode(b, &s.Query)
}

// Summary is what a bundle says of itself.
type Summary struct {
	Query  Query
	Signed bool
	Pieces int64 // bytes of parts of the store that it shows
}

// verifier is one run of Verify.
type verifier struct {
	dir     string
	keys    note.Verifiers
	rep     *Report
	format  int
	store   string
	list    []entry
	batches map[uint64][]known // by batch, in order of their lines
	batchOf []uint64           // by line
	hosts   map[string]bool
	records int64
	lines   int64

	pieces *pieceFile // opened when a proof needs it
}

func (v *verifier) close() {
	if v.pieces != nil {
		_ = errors.Join(v.pieces.file.Close(), v.pieces.codec.Close()) // it was only read
	}
}

// known is an event that was read: hash is that of its line, mixed with its host's name left out.
type known struct {
	n           int64
	hash, mixed eventtree.Hash
	proved      bool // a line of proofs.jsonl is about it
}

func changed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrChanged, fmt.Errorf(format, args...))
}

// open opens a file of the bundle, which must be a plain one.
func (v *verifier) open(name string) (*os.File, int64, error) {
	path := filepath.Join(v.dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, 0, changed("%s is a symbolic link: a bundle has none", name)
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, changed("%s is missing", name)
	case err != nil:
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = changed("%s is no plain file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// small reads a file that has at most so many bytes.
func (v *verifier) small(name string, most int64) ([]byte, error) {
	f, size, err := v.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > most {
		return nil, changed("%s has %d bytes, and would have %d at most", name, size, most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

func (v *verifier) manifest() error {
	info, err := os.Stat(v.dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s: %w: it is no folder", v.dir, ErrBundle)
	}
	if err != nil {
		return err
	}
	text, err := v.small(Manifest, maxManifest)
	if err != nil {
		if _, serr := os.Lstat(filepath.Join(v.dir, Manifest)); errors.Is(serr, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w: it has no file %s", v.dir, ErrBundle, Manifest)
		}
		return err
	}
	body := string(text)
	if bytes.Contains(text, []byte("\n\n")) {
		n, err := note.Open(text, v.keys)
		var other *note.UnverifiedNoteError
		switch {
		case errors.As(err, &other):
			name := "nobody"
			if sigs := other.Note.UnverifiedSigs; len(sigs) > 0 {
				name = fmt.Sprintf("%s+%08x", sigs[0].Name, sigs[0].Hash)
			}
			return changed("%s is signed by %s, not by the key given", Manifest, name)
		case err != nil:
			return changed("%s: its signature is wrong: %w", Manifest, err)
		}
		body, v.rep.SignedBy = n.Text, n.Sigs[0].Name
	}
	v.format, v.store, v.list, err = parseManifest(body)
	switch {
	case errors.Is(err, errNewer):
		return err
	case err != nil:
		return changed("%w", err)
	}
	var names []string
	for _, e := range v.list {
		names = append(names, e.name)
	}
	if want := slices.DeleteFunc(slices.Clone(files(v.format)), func(n string) bool { return n == Checkpoint && !slices.Contains(names, Checkpoint) }); !slices.Equal(names, want) {
		return changed("%s lists %q, a bundle has %q", Manifest, names, want)
	}
	return nil
}

// listed compares each file with the manifest, and notes what else is there.
func (v *verifier) listed() error {
	for _, e := range v.list {
		f, size, err := v.open(e.name)
		if err != nil {
			return err
		}
		if size != e.size {
			return errors.Join(changed("%s has %d bytes, and had %d", e.name, size, e.size), f.Close())
		}
		h := sha256.New()
		n, err := io.Copy(h, io.LimitReader(f, e.size+1))
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if n != e.size || eventtree.Hash(h.Sum(nil)) != e.hash {
			return changed("%s is not what %s says of it", e.name, Manifest)
		}
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != Manifest && !slices.ContainsFunc(v.list, func(l entry) bool { return l.name == name }) {
			v.rep.Others = append(v.rep.Others, name)
		}
	}
	return nil
}

// strict decodes JSON without fields that are not known, and which is written as Make writes it: a name that stands
// there twice, or in other letters, is one thing to this program and may be another to the next.
func strict(b []byte, to any, write func(any) ([]byte, error)) error {
	if err := decode(b, to); err != nil {
		return err
	}
	if again, err := write(to); err != nil || !bytes.Equal(again, b) {
		return errors.New("it is not written as the program writes it")
	}
	return nil
}

func decode(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value")
	}
	return nil
}

func (v *verifier) query() error {
	b, err := v.small(QueryFile, maxQuery)
	if err != nil {
		return err
	}
	q := &v.rep.Query
	if err := strict(b, q, encodeQuery); err != nil {
		return changed("%s: %w", QueryFile, err)
	}
	if q.Format != v.format {
		return changed("%s is of format %d, %s of %d", QueryFile, q.Format, Manifest, v.format)
	}
	if q.Store != v.store {
		return changed("%s is of the store %.80q, %s of %.80q", QueryFile, q.Store, Manifest, v.store)
	}
	return nil
}

func (v *verifier) checkpoint() error {
	if !slices.ContainsFunc(v.list, func(e entry) bool { return e.name == Checkpoint }) {
		return nil
	}
	b, err := v.small(Checkpoint, checkpoint.MaxBytes)
	if err != nil {
		return err
	}
	c, err := checkpoint.Open(b, v.keys)
	switch {
	case err != nil:
		return changed("%s: %w", Checkpoint, err)
	case v.rep.SignedBy != "" && c.Origin != v.rep.SignedBy:
		return changed("%s is of %s, %s is signed by %s", Checkpoint, c.Origin, Manifest, v.rep.SignedBy)
	case c.Store != v.store:
		return changed("%s is of the store %s, the bundle of %.80q", Checkpoint, c.Store, v.store)
	}
	v.rep.Checkpoint = c
	return nil
}

// eachLine calls fn with each line of a file.
func (v *verifier) eachLine(name string, fn func(line []byte) error) error {
	f, _, err := v.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 64<<10), maxLine)
	n := 0
	for s.Scan() {
		n++
		if err := fn(s.Bytes()); err != nil {
			return fmt.Errorf("%s, line %d: %w", name, n, err)
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return changed("%s, line %d has more than %d bytes", name, n+1, maxLine)
	}
	return s.Err()
}
