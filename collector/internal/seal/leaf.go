package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Errors of this package's files and leaves, each wrapped with what is wrong where.
var (
	// ErrDamaged says that bytes are not as they were written.
	ErrDamaged = errors.New("the seal is damaged")
	// ErrVersion says that a newer program wrote them.
	ErrVersion = errors.New("the seal is from a newer version")
	// ErrNoLeaf says that the tree has no leaf of a batch: it has no events, or they were stored
	// before the store was sealed, or it comes into the tree with the next checkpoint.
	ErrNoLeaf = errors.New("the log has no leaf of that batch")
	// ErrLater is ErrNoLeaf of a batch that the log has not come to yet.
	ErrLater = fmt.Errorf("%w yet", ErrNoLeaf)
)

// Kind is what a leaf is about. The numbers are stored.
type Kind uint8

// Kinds of leaves.
const (
	// Batch is a batch's group of events: Part, Batch, First to Last (LSNs), Open, Hash, Pieces and Size of the
	// group, MinMs and MaxMs of its events, Events, Records, Hosts.
	Batch Kind = 1
	// Dropped is a partition that the store has deleted on purpose, or is about to: Part, First to Last (its batches with
	// events), Groups, Events, MinMs, MaxMs, Why.
	Dropped Kind = 2
	// Begun is the log's first leaf: Batch is the last batch before it. Those up to it are sealed as they
	// were found then, where Groups says so, or not at all. Why says why it was begun.
	Begun Kind = 3
	// Rewound says that the store was found behind its log: First is the last batch that it has, Batch the
	// last one that the log had. What the log has of batches between is of a state that is gone. Why says how it was noticed.
	Rewound Kind = 4
	// Accepted says that a person has looked at what was wrong with the log, and has it go on: Why has their words, Size and
	// Hash the checkpoint that does not hold any more (its number of leaves and its root), where there is one.
	Accepted Kind = 5
	// Account is what a sealed partition has of its hosts' completeness, the rows of the ledger: Part, Batch (its last one with events), Groups,
	// Size and Hash of the rows. The newest of a partition counts.
	Account Kind = 6
	// Holds is the list of holds after a change: First is the change's number, Groups how many holds there are,
	// Hash that of the list, EventsRoot that of the list before, Why what was changed and by whom.
	Holds Kind = 7
	// Rewritten is partitions whose events were written again into others, or are about to be: Sources, Made, Voucher; First to Last,
	// MinMs, MaxMs, Events and Records are those of all. A partition is as the newest leaf says that made it. One whose partitions are not there
	// is of a rewriting that did not happen, where its sources are.
	Rewritten Kind = 8
)

func (k Kind) String() string {
	switch k {
	case Batch:
		return "batch"
	case Dropped:
		return "dropped"
	case Begun:
		return "begun"
	case Rewound:
		return "rewound"
	case Accepted:
		return "accepted"
	case Account:
		return "account"
	case Holds:
		return "holds"
	case Rewritten:
		return "rewritten"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Bits of Leaf.Flags.
const (
	// Elsewhere: the group went to another engine, and is not kept in the store's own files.
	Elsewhere = 1 << 0
	// Found: the group was there before the store was sealed; its leaf says how it was found then.
	Found = 1 << 1
)

// The first byte of a leaf is 2 where its Hash is the root of the tree over a group's pieces, 3 of the kind Rewritten, else 1.
const (
	flatVersion      = 1
	pieceVersion     = 2
	rewrittenVersion = 3
)

// maxWhy and maxPart bound what a leaf is read with.
const (
	maxWhy  = 4096
	maxPart = 64
	// MaxLeaf bounds a leaf's bytes: a million hosts of names as long as they come.
	MaxLeaf = 64 << 20
)

// HostCount is how much of a batch is one host's.
type HostCount struct {
	Name            string // "" is hosts that are not told apart
	Events, Records uint64
}

// Leaf is one entry of the log. What a field means depends on Kind; those that a kind has no use for
// are 0.
type Leaf struct {
	Kind        Kind
	Store       seglog.ID
	At          int64 // when it was made, ms since 1970
	Part        string
	Batch       uint64
	First, Last uint64
	Open        uint64 // records up to Last that belong to later batches: their events were open
	Groups      uint64
	Flags       uint64
	Size        uint64 // bytes of the group
	// Pieces is how many pieces the group has, and Hash the root of the tree over them; 0: of a leaf of version 1, where
	// Hash is the SHA-256 of all of the group's bytes.
	Pieces       uint64
	Hash         [32]byte
	MinMs, MaxMs int64
	Events       uint64
	Records      uint64
	// Hosts are those that the leaf names, by name: all of a group whose leaf stays small beside it. AllHosts is how many there are.
	Hosts      []HostCount
	AllHosts   uint64
	Why        string
	EventsRoot [32]byte // of a batch (and see Holds): the root of the tree over its events (collector/internal/eventtree); zero: none was made
	// Sources, Made and Voucher are of the kind Rewritten only.
	Sources []Source
	Made    []Made
	Voucher Voucher
}

// Encode returns the leaf's bytes, which are what the tree's hash is of.
func (l *Leaf) Encode() []byte {
	b := make([]byte, 0, 128+len(l.Why)+12*len(l.Hosts))
	version, groups := byte(flatVersion), l.Groups
	switch {
	case l.Kind == Batch && l.Pieces > 0:
		version, groups = pieceVersion, l.Pieces
	case l.Kind == Rewritten:
		version = rewrittenVersion
	}
	b = append(b, version, byte(l.Kind))
	b = append(b, l.Store[:]...)
	b = binary.AppendUvarint(b, uint64(l.At))
	b = appendText(b, l.Part)
	for _, n := range [...]uint64{l.Batch, l.First, l.Last, l.Open, groups, l.Flags, l.Size} {
		b = binary.AppendUvarint(b, n)
	}
	b = append(b, l.Hash[:]...)
	for _, n := range [...]uint64{uint64(l.MinMs), uint64(l.MaxMs), l.Events, l.Records, l.AllHosts} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendHosts(b, l.Hosts)
	b = append(appendText(b, l.Why), l.EventsRoot[:]...)
	if l.Kind == Rewritten {
		b = l.appendRewritten(b)
	}
	return b
}

// appendHosts appends a list of hosts.
func appendHosts(b []byte, list []HostCount) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	prev := ""
	for i := range list {
		h := &list[i]
		same := sharedPrefix(prev, h.Name)
		b = binary.AppendUvarint(b, uint64(same))
		b = appendText(b, h.Name[same:])
		b = binary.AppendUvarint(b, h.Events)
		b = binary.AppendUvarint(b, h.Records)
		prev = h.Name
	}
	return b
}

// readHosts is the reverse.
func readHosts(r *varint.Reader) (list []HostCount) {
	prev := ""
	n := r.Count(4)
	list = slices.Grow(list, n)
	for range n {
		same := r.Uvarint()
		if same > uint64(len(prev)) {
			r.Fail()
			return nil
		}
		h := HostCount{Name: prev[:same] + readText(r, 1<<16)}
		h.Events, h.Records = r.Uvarint(), r.Uvarint()
		list = append(list, h)
		prev = h.Name
	}
	return list
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func sharedPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// ParseLeaf is the reverse of Encode. Errors: ErrVersion, ErrDamaged.
func ParseLeaf(b []byte) (*Leaf, error) {
	l := &Leaf{}
	r, err := l.read(b)
	if err != nil {
		return nil, err
	}
	l.Hosts = readHosts(&r)
	l.Why = readText(&r, maxWhy)
	copy(l.EventsRoot[:], r.Bytes(uint64(len(l.EventsRoot))))
	if l.Kind == Rewritten {
		l.readRewritten(&r)
		if err := l.checkRewritten(); err != nil {
			return nil, badLeaf(b)
		}
	}
	if !r.Done() || string(l.Encode()) != string(b) { // one leaf has one text
		return nil, badLeaf(b)
	}
	return l, nil
}

func badLeaf(b []byte) error { return fmt.Errorf("%w: a leaf of %d bytes", ErrDamaged, len(b)) }

// head is ParseLeaf of what stands before a leaf's hosts, for who takes the rest for right.
func (l *Leaf) head(b []byte) error {
	r, err := l.read(b)
	if err == nil && r.Bad() {
		err = badLeaf(b)
	}
	return err
}

// read reads what stands before a leaf's hosts; r has the rest.
func (l *Leaf) read(b []byte) (r varint.Reader, err error) {
	if len(b) > 0 && b[0] > rewrittenVersion {
		return r, fmt.Errorf("%w: a leaf of version %d, this program reads %d", ErrVersion, b[0], rewrittenVersion)
	}
	if len(b) < 2 || b[0] < flatVersion || b[1] < byte(Batch) || b[1] > byte(Rewritten) || len(b) > MaxLeaf {
		return r, badLeaf(b)
	}
	*l = Leaf{Kind: Kind(b[1])}
	r = varint.NewReader(b[2:])
	copy(l.Store[:], r.Bytes(uint64(len(l.Store))))
	l.At = int64(r.Uvarint())
	l.Part = readText(&r, maxPart)
	for _, p := range [...]*uint64{&l.Batch, &l.First, &l.Last, &l.Open, &l.Groups, &l.Flags, &l.Size} {
		*p = r.Uvarint()
	}
	if b[0] == pieceVersion {
		l.Pieces, l.Groups = l.Groups, 0
	}
	copy(l.Hash[:], r.Bytes(uint64(len(l.Hash))))
	l.MinMs, l.MaxMs, l.Events, l.Records, l.AllHosts = int64(r.Uvarint()), int64(r.Uvarint()), r.Uvarint(), r.Uvarint(), r.Uvarint()
	return r, nil
}

func readText(r *varint.Reader, most uint64) string {
	n := r.Uvarint()
	if n > most {
		r.Fail()
	}
	return string(r.Bytes(n))
}

// A leaf names leastNamed hosts at least, and more while their list takes no more than a namedPart of the group's bytes: what
// is kept of a batch of a thousand hosts with a record each must not be half of the batch.
const (
	leastNamed = 8
	namedPart  = 1024
)

// Name counts a host of the leaf's group, and names it where there is room. Hosts come by name, and Size is set.
func (l *Leaf) Name(name string, events, records uint64) {
	if l.AllHosts++; uint64(len(l.Hosts)) != l.AllHosts-1 {
		return // one before it had no room
	}
	if len(l.Hosts) >= leastNamed && uint64(hostBytes*(len(l.Hosts)+1)) > l.Size/namedPart {
		return
	}
	l.Hosts = append(l.Hosts, HostCount{Name: name, Events: events, Records: records})
}

// hostBytes is about what a host takes in a leaf.
const hostBytes = 10

// Clip bounds what a leaf says in words.
func Clip(s string) string {
	return s[:min(len(s), maxWhy)]
}
