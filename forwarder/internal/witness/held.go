package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Dir is the folder, in that of the spool, that has what is kept.
const Dir = "witness"

const (
	heldMagic = "auditfleet-witness 1 "
	daysMagic = "auditfleet-witness-days 1\n"

	heldSuffix = ".newest"
	daysSuffix = ".days"

	// maxText bounds a checkpoint that is kept; one with a signature has some 300 bytes.
	maxText = 4 << 10
	// maxStores bounds the stores of which something is kept, and maxDays the days of each.
	maxStores  = 16
	maxDays    = 400
	maxServers = 8
	maxFile    = 64 << 10
	maxDayFile = maxDays*(maxText*4/3+64) + 1024
)

// ErrFormat is returned for a file that is not one of ours, a newer one, or a damaged one.
var ErrFormat = errors.New("not a checkpoint kept by this program, or damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Held is what is kept of one store: the newest checkpoint.
type Held struct {
	checkpoint.Checkpoint
	Text []byte // as it was signed
	Key  string // the public key that it is signed with
	// Given says that the key is one of those that the administrator gave; else it is the
	// first that the collector showed.
	Given   bool
	Servers []Server // that showed it, the latest first
	First   time.Time
	Seen    time.Time
}

// Server is a collector as it is configured, and when it last showed something new.
type Server struct {
	Name string
	Seen time.Time
}

// sees notes which server showed it.
func (h *Held) sees(server string, now time.Time) {
	h.Seen = now
	h.Servers = slices.DeleteFunc(slices.Clone(h.Servers), func(s Server) bool { return s.Name == server })
	h.Servers = slices.Insert(h.Servers, 0, Server{server, now})
	h.Servers = h.Servers[:min(len(h.Servers), maxServers)]
}

// shownBy reports whether a server showed it.
func (h *Held) shownBy(server string) bool {
	return slices.ContainsFunc(h.Servers, func(s Server) bool { return s.Name == server })
}

func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// encode makes the file of what is kept.
func (h *Held) encode() []byte {
	var b bytes.Buffer
	verified := "first-use"
	if h.Given {
		verified = "seal-keys"
	}
	fmt.Fprintf(&b, "key %s\nverified %s\nfirst %s\nseen %s\n", h.Key, verified, stampOf(h.First), stampOf(h.Seen))
	for _, s := range h.Servers {
		fmt.Fprintf(&b, "server %s %s\n", stampOf(s.Seen), s.Name)
	}
	b.WriteByte('\n')
	b.Write(h.Text)
	return append(fmt.Appendf(nil, "%s%08x\n", heldMagic, crc32.Checksum(b.Bytes(), castagnoli)), b.Bytes()...)
}

// unframe takes the first line off a file and checks the sum in it.
func unframe(b []byte, magic string) (rest []byte, err error) {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	sum, ours := bytes.CutPrefix(line, []byte(magic))
	if !ok || !ours || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(rest, castagnoli)) {
		return nil, ErrFormat
	}
	return rest, nil
}

// parseHeld reads what encode made.
func parseHeld(b []byte) (h *Held, err error) {
	b, err = unframe(b, heldMagic)
	if err != nil {
		return nil, err
	}
	head, text, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return nil, ErrFormat
	}
	h = &Held{Text: bytes.Clone(text)}
	for line := range strings.SplitSeq(string(head), "\n") {
		word, value, _ := strings.Cut(line, " ")
		var err error
		switch word {
		case "key":
			h.Key = value
		case "verified":
			h.Given = value == "seal-keys"
		case "first":
			h.First, err = time.Parse(time.RFC3339, value)
		case "seen":
			h.Seen, err = time.Parse(time.RFC3339, value)
		case "server":
			at, name, _ := strings.Cut(value, " ")
			s := Server{Name: name}
			s.Seen, err = time.Parse(time.RFC3339, at)
			h.Servers = append(h.Servers, s)
		}
		if err != nil || len(h.Servers) > maxServers {
			return nil, ErrFormat
		}
	}
	if h.Checkpoint, err = checkpoint.Parse(h.Text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return h, nil
}

// readHeld reads what is kept in a folder, the stores in order. What can't be read is returned by its
// path.
func readHeld(dir string) (list []*Held, bad map[string]error, err error) {
	names, err := fsys.OS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	bad = map[string]error{}
	for _, name := range names {
		store, ok := strings.CutSuffix(name, heldSuffix)
		if !ok {
			continue
		}
		path := filepath.Join(dir, name)
		b, rerr := readOwn(path, maxFile)
		var h *Held
		if rerr == nil {
			h, rerr = parseHeld(b)
		}
		if rerr == nil && h.Store != store {
			rerr = fmt.Errorf("%w: it is of the store %s", ErrFormat, h.Store)
		}
		if rerr != nil {
			bad[path] = rerr
			continue
		}
		list = append(list, h)
	}
	return list, bad, err
}

// Day is the last checkpoint of a day.
type Day struct {
	Day  string // 2026-11-29, UTC
	Text []byte
}

// readDays reads the days of a store; damaged ones are left out.
func readDays(dir, store string) (list []Day, err error) {
	b, err := readOwn(filepath.Join(dir, store+daysSuffix), maxDayFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(string(b), daysMagic)
	if !ok {
		return nil, ErrFormat
	}
	for line := range strings.Lines(rest) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != fmt.Sprintf("%08x", crc32.Checksum([]byte(f[0]+" "+f[1]), castagnoli)) {
			continue
		}
		if text, err := base64.StdEncoding.DecodeString(f[1]); err == nil {
			list = append(list, Day{f[0], text})
		}
	}
	return list, nil
}

// encodeDays makes the file of days, of the latest maxDays.
func encodeDays(list []Day) []byte {
	b := []byte(daysMagic)
	for _, d := range list[max(0, len(list)-maxDays):] {
		line := d.Day + " " + base64.StdEncoding.EncodeToString(d.Text)
		b = fmt.Appendf(b, "%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
	}
	return b
}

// addDay keeps a checkpoint as the last of its day. A damaged file is not written over: aside is where it is then.
func addDay(dir, store string, d Day) (aside string, err error) {
	path := filepath.Join(dir, store+daysSuffix)
	list, err := readDays(dir, store)
	if errors.Is(err, ErrFormat) {
		aside = path + ".damaged"
		err = os.Rename(path, aside)
	}
	if err != nil {
		return "", err
	}
	if n := len(list); n > 0 && list[n-1].Day == d.Day {
		list = list[:n-1]
	}
	return aside, fsys.Replace(path, encodeDays(append(list, d)), 0o600, true)
}
