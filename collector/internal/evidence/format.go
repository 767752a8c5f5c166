// Package evidence makes bundles of records that somebody else can check: what a search found, byte for
// byte, the proof that it stood in the collector's log of what was stored, and a signature over the
// whole. FORMAT.md describes a bundle. Make is the collector's side, Write puts its files into a folder,
// and Verify checks such a folder with nothing but a public key. The collector's server, API and command
// line import it.
package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// The files of a bundle.
const (
	Manifest   = "MANIFEST"
	Readme     = "README.md"
	QueryFile  = "query.json"
	Records    = "records.log"
	Events     = "events.jsonl"
	Proofs     = "proofs.jsonl"
	Pieces     = "pieces"
	Coverage   = "coverage.json"
	Checkpoint = "checkpoint"
)

// Format is the latest version of bundles. Those of version 1 have no pieces; one of version 3 is made where events are proved by what compaction has
// made, else one of version 2, which older programs check, too.
const Format = 3

const plainFormat = 2

// files are those that a bundle of a version has beside its manifest, as they are listed there. Checkpoint is missing
// where there is none.
func files(format int) []string {
	if format < 2 {
		return []string{Readme, Checkpoint, Coverage, Events, Proofs, QueryFile, Records}
	}
	return []string{Readme, Checkpoint, Coverage, Events, Pieces, Proofs, QueryFile, Records}
}

var (
	// ErrChanged is returned by Verify, with the file and place, for a bundle that is not as it was made.
	ErrChanged = errors.New("changed")
	// ErrBundle is returned for a folder that is no bundle, or not a whole one.
	ErrBundle = errors.New("not a whole bundle")

	// ErrTooLarge is returned by Make for what Verify would not read.
	ErrTooLarge = errors.New("more than a bundle can have")

	errNewer = fmt.Errorf("%w: a newer collector made it", ErrBundle)
)

// Query is the file query.json: what was asked, and what was found. Times are ms since 1970; 0 is no bound.
type Query struct {
	Format    int      `json:"format"`
	Collector string   `json:"collector"`
	Store     string   `json:"store"` // its ID
	Words     []string `json:"words"`
	Zone      string   `json:"zone"` // in which times of the words were read
	FromMs    int64    `json:"from_ms"`
	ToMs      int64    `json:"to_ms"`
	From      string   `json:"from,omitempty"` // the same, RFC 3339 in UTC
	To        string   `json:"to,omitempty"`
	LastBatch uint64   `json:"last_batch"` // nothing that was stored later is in the bundle
	Events    int64    `json:"events"`
	Records   int64    `json:"records"`
	Hosts     []string `json:"hosts"`
	Proved    int64    `json:"events_proved"`
	Unproved  int64    `json:"events_not_proved"`
	Why       string   `json:"why_not_proved,omitempty"`
	Missing   string   `json:"missing,omitempty"`         // what a damaged store lacks
	LeftOut   int64    `json:"events_left_out,omitempty"` // that match and were not stored yet, in a store that no collector has
}

// Event is a line of events.jsonl: what is known of an event beside its records. Its text is Length bytes of
// records.log from Offset on.
type Event struct {
	N         int64   `json:"n"` // its line, from 1
	Batch     uint64  `json:"batch"`
	Host      string  `json:"host"`
	HostHex   string  `json:"host_hex,omitempty"` // where the name is not UTF-8
	Offset    int64   `json:"offset"`
	Length    int64   `json:"length"`
	Counted   bool    `json:"counted,omitempty"` // the form of its text: see FORMAT.md
	Records   int     `json:"records"`
	Transport string  `json:"transport"`
	Address   string  `json:"address,omitempty"`
	Verified  string  `json:"verified,omitempty"`
	Received  []int64 `json:"received_ms"`
}

// Proof is a line of proofs.jsonl: a batch that has events of the bundle, or a group that compaction has made and that has some.
type Proof struct {
	Batch uint64 `json:"batch"` // 0 with Made
	// Made is such a group: then pieces, Leaf and Path are those of the group and of the leaf that says how it was made.
	Made *MadeGroup `json:"made,omitempty"`
	// Events are [line of events.jsonl, ordinal in the batch], by ordinal; a third number, 1, says that the
	// event is kept among those of hosts that are not told apart: its host's name is hashed as "".
	Events [][]int64 `json:"events"`
	Why    string    `json:"not_proved,omitempty"` // why the rest is missing
	// Pieces are [number in the batch's group, offset and length in the file of pieces], by number. Without them the events are
	// proved by a tree over events.
	Pieces [][]int64 `json:"pieces,omitempty"`
	Of     int64     `json:"of,omitempty"`   // how many pieces the batch has, or events
	Tree   []string  `json:"tree,omitempty"` // hashes, hex: eventtree's proof
	Leaf   string    `json:"leaf,omitempty"` // base64: the batch's leaf in the log
	Index  int64     `json:"index"`          // of the leaf
	Path   []string  `json:"path,omitempty"` // hashes, hex: from the leaf to the checkpoint's root
	// Batches has the leaves of the batches that the events of a group that was made are of, ascending; Before those of what had been made of them
	// before that group, the newest first.
	Batches []LoggedLeaf `json:"batches,omitempty"`
	Before  []LoggedLeaf `json:"before,omitempty"`
}

// MadeGroup names a group of a partition that compaction has made.
type MadeGroup struct {
	Partition string `json:"partition"`
	Group     int    `json:"group"` // from 1
}

// LoggedLeaf is a leaf, and where it stands in the log.
type LoggedLeaf struct {
	Leaf  string   `json:"leaf"` // base64
	Index int64    `json:"index"`
	Path  []string `json:"path"` // hashes, hex: from the leaf to the checkpoint's root
}

// encodeLine writes a value as a line of its file has it, without the end of the line.
func encodeLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// encodeEvent is encodeLine for a line of events.jsonl that was read: a name that is not UTF-8 stands there twice.
func encodeEvent(v any) ([]byte, error) {
	e := *v.(*Event)
	if e.HostHex != "" {
		name, err := hex.DecodeString(e.HostHex)
		if err != nil {
			return nil, err
		}
		e.Host = string(name)
	}
	return encodeLine(&e)
}

// encodeQuery writes query.json.
func encodeQuery(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

// text is a text as JSON has it: of what is no UTF-8, each byte becomes one character.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// transports are the names of transports, by their number.
var transports = func() map[string]event.Transport {
	out := map[string]event.Transport{}
	for t := event.TransportUnknown; t <= event.TransportPSK; t++ {
		out[t.String()] = t
	}
	return out
}()

// entry is a file as the manifest lists it.
type entry struct {
	name string
	size int64
	hash eventtree.Hash
}

// manifestHead is the first line of a manifest, but for the version behind it. No key has such a name, so that no signature of a
// manifest can be one of a checkpoint.
const manifestHead = "auditfleet evidence "

// manifestText returns what is signed: the store, and each file with its size and SHA-256.
func manifestText(format int, store string, list []entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%d\nstore %s\n", manifestHead, format, store)
	for _, e := range list {
		fmt.Fprintf(&b, "bytes %d %s\n", e.size, e.name)
	}
	for _, e := range list {
		fmt.Fprintf(&b, "%x  %s\n", e.hash, e.name)
	}
	return b.String()
}

// parseManifest is the reverse of manifestText: of each manifest there is one text.
func parseManifest(text string) (format int, store string, list []entry, err error) {
	bad := func(line string) error { return fmt.Errorf("%w: %s: line %.100q", ErrBundle, Manifest, line) }
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if version, ok := strings.CutPrefix(lines[0], manifestHead); ok {
		format, _ = strconv.Atoi(version)
	}
	if format > Format {
		return 0, "", nil, fmt.Errorf("%w: format %d", errNewer, format)
	}
	if len(lines) < 2 || format < 1 {
		return 0, "", nil, bad(lines[0])
	}
	store, ok := strings.CutPrefix(lines[1], "store ")
	if !ok {
		return 0, "", nil, bad(lines[1])
	}
	rest := lines[2:]
	n := len(rest) / 2
	for i := range n {
		size, name, _ := strings.Cut(strings.TrimPrefix(rest[i], "bytes "), " ")
		e := entry{name: name}
		if e.size, err = strconv.ParseInt(size, 10, 64); err != nil || e.size < 0 {
			return 0, "", nil, bad(rest[i])
		}
		h, err := hashOf(strings.TrimSuffix(rest[n+i], "  "+name))
		if err != nil {
			return 0, "", nil, bad(rest[n+i])
		}
		e.hash = h
		list = append(list, e)
	}
	if manifestText(format, store, list) != strings.Join(lines, "\n")+"\n" {
		return 0, "", nil, bad(lines[len(lines)-1])
	}
	return format, store, list, nil
}

// sign signs a manifest's text as a note.
func sign(text string, signer note.Signer) ([]byte, error) {
	if signer == nil {
		return []byte(text), nil
	}
	return note.Sign(&note.Note{Text: text}, signer)
}
