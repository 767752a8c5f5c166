package witness

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// What is found, in the words of the records that say it.
const (
	Fork   = "seal-fork"   // two histories were signed
	Rewind = "seal-rewind" // the log has fewer leaves than it had
	Key    = "seal-key"    // another key than the one gone by
	Clock  = "seal-time"   // the time of signing went back
	Bad    = "seal-bad"    // not as a checkpoint has to be, or not proved when asked
	// No alarms by themselves:
	Restored = "seal-restored" // a break of the log was accepted at the collector
	Store    = "seal-store"    // the server has another store than before
)

// Ops are all of these.
func Ops() []string { return []string{Fork, Rewind, Key, Clock, Bad, Restored, Store} }

const (
	incidentMagic  = "auditfleet-incident 1 "
	incidentPrefix = "incident-"
	acceptedPrefix = "accepted-"

	// maxIncidents bounds those that are kept. The first keepFirst are never made room of.
	maxIncidents = 64
	keepFirst    = 16
)

// Incident is one finding, with what shows it.
type Incident struct {
	ID     string
	Op     string
	Server string
	When   time.Time
	Said   bool   // in the stream, too
	Text   string // what it means, for people
	Held   []byte // the checkpoint that was kept; empty: none
	Given  []byte // the one that came
	// Key is the one that Given is signed with, where that is what was found.
	Key      string
	Accepted bool // an administrator has seen it

	held, given *brief
}

// brief is what a record says of a checkpoint.
type brief struct {
	size  int64
	root  string
	time  time.Time
	store string
	key   string
}

// identify makes the ID of what makes a finding another one.
func identify(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:8])
}

func (i *Incident) encode() []byte {
	var b bytes.Buffer
	said := "no"
	if i.Said {
		said = "yes"
	}
	fmt.Fprintf(&b, "op %s\nserver %s\nwhen %s\nsaid %s\ntext %s\nheld %d\ngiven %d\n", i.Op, i.Server, stampOf(i.When), said, i.Text, len(i.Held), len(i.Given))
	if i.Key != "" {
		fmt.Fprintf(&b, "key %s\n", i.Key)
	}
	b.WriteByte('\n')
	b.Write(i.Held)
	b.Write(i.Given)
	return append(fmt.Appendf(nil, "%s%08x\n", incidentMagic, crc32.Checksum(b.Bytes(), castagnoli)), b.Bytes()...)
}

func parseIncident(b []byte) (*Incident, error) {
	b, err := unframe(b, incidentMagic)
	if err != nil {
		return nil, err
	}
	head, rest, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return nil, ErrFormat
	}
	i, held, given := &Incident{}, 0, 0
	for line := range strings.SplitSeq(string(head), "\n") {
		word, value, _ := strings.Cut(line, " ")
		var err error
		switch word {
		case "op":
			i.Op = value
		case "server":
			i.Server = value
		case "when":
			i.When, err = time.Parse(time.RFC3339, value)
		case "said":
			i.Said = value == "yes"
		case "key":
			i.Key = value
		case "text":
			i.Text = value
		case "held":
			held, err = strconv.Atoi(value)
		case "given":
			given, err = strconv.Atoi(value)
		}
		if err != nil {
			return nil, ErrFormat
		}
	}
	if held < 0 || given < 0 || held > len(rest) || len(rest)-held != given {
		return nil, ErrFormat
	}
	i.Held, i.Given = bytes.Clone(rest[:held]), bytes.Clone(rest[held:])
	return i, nil
}

// readIncidents reads what is kept of findings, the oldest first. One that is there as accepted, too, was accepted while
// it was written.
func readIncidents(dir string) (list []*Incident, bad map[string]error, err error) {
	names, err := fsys.OS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	bad = map[string]error{}
	for _, name := range names {
		id, open := strings.CutPrefix(name, incidentPrefix)
		accepted := false
		if !open {
			if id, accepted = strings.CutPrefix(name, acceptedPrefix); !accepted {
				continue
			}
		}
		if strings.HasSuffix(id, ".tmp") {
			continue
		}
		if open && slices.Contains(names, acceptedPrefix+id) {
			continue
		}
		path := filepath.Join(dir, name)
		b, rerr := readOwn(path, maxFile)
		var i *Incident
		if rerr == nil {
			i, rerr = parseIncident(b)
		}
		if rerr != nil {
			bad[path] = rerr
			continue
		}
		i.ID, i.Accepted = id, accepted
		list = append(list, i)
	}
	slices.SortStableFunc(list, func(a, b *Incident) int { return cmp.Or(a.When.Compare(b.When), cmp.Compare(a.ID, b.ID)) })
	return list, bad, err
}

// Alarm reports whether it is one, and not worth a line only.
func (i *Incident) Alarm() bool { return i.Op != Store && i.Op != Restored }

// file is the name of an incident's.
func (i *Incident) file() string {
	if i.Accepted {
		return acceptedPrefix + i.ID
	}
	return incidentPrefix + i.ID
}

// Accept notes that an administrator has seen a finding: it is no longer shown as one to be looked
// at, and not said again. all: every one. It returns how many there were.
func Accept(spool string, ids []string, all bool) (n int, err error) {
	dir := filepath.Join(spool, Dir)
	list, _, err := readIncidents(dir)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(list, func(i *Incident) bool { return i.ID == id }) {
			return 0, fmt.Errorf("no finding %.40q is kept: `forwarder witness` lists them", id)
		}
	}
	for _, i := range list {
		if i.Accepted || !all && !slices.Contains(ids, i.ID) {
			continue
		}
		if err := os.Rename(filepath.Join(dir, incidentPrefix+i.ID), filepath.Join(dir, acceptedPrefix+i.ID)); err != nil {
			return n, err
		}
		n++
	}
	return n, fsys.OS.SyncDir(dir)
}

// readOwn reads a file that only this program writes.
func readOwn(path string, most int64) ([]byte, error) {
	f, err := fsys.OpenOwn(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return fsys.ReadRegular(path, most)
}
