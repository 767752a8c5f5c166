package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// SealedOptions say what to compare with what.
type SealedOptions struct {
	Dir        string // the store, or a copy of it; nothing is written there
	Checkpoint []byte // a signed note
	Keys       note.Verifiers
	// Progress, when not nil, is called with the bytes read and those of all partitions.
	Progress func(done, total int64)
	// Elsewhere gives again the batches that went to another engine; nil: these are not compared. From and To are on which days they were received that
	// are, To too; 0: any.
	Elsewhere Elsewhere
	From, To  store.Day
}

// SealedReport is the outcome of Sealed.
type SealedReport struct {
	Dir        string
	Server     string // the collector that has the store, "" when none has
	Checkpoint checkpoint.Checkpoint
	Leaves     int64  // of the store's log, with those that its partitions have and it has not yet
	Groups     int    // that are what their leaves say
	Events     uint64 // in these
	// Changed is what is not as it was, a line each; Notes are worth knowing, and no change.
	Changed, Notes []string
}

// Sealed compares a store with a checkpoint: whether all that the checkpoint has is in the store as it was then. An
// error means that it could not be done, also because the checkpoint is none, or is of another key (checkpoint.ErrFormat, ErrSignature,
// ErrKey).
//
// Beside a collector that compacts, log and files are never read in one moment: what one look finds changed is looked at again,
// until two looks in a row say the same.
func Sealed(ctx context.Context, o SealedOptions) (rep *SealedReport, err error) {
	var before []string
	for look := 1; ; look++ {
		if rep, err = sealedNow(ctx, o); err != nil || rep.Server == "" || len(rep.Changed) == 0 || look == mostPasses || slices.Equal(rep.Changed, before) {
			return rep, err
		}
		before = rep.Changed
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return rep, ctx.Err()
		}
	}
}

// sealedNow is one look of Sealed.
func sealedNow(ctx context.Context, o SealedOptions) (_ *SealedReport, err error) {
	s := &sealed{o: o, rep: &SealedReport{Dir: o.Dir}, batches: map[uint64]int{}, dropped: map[string]*entry{}, saidDropped: map[string]*entry{}, accounts: map[string]*entry{}, found: map[uint64]found{}, made: map[string]*foundMade{}, again: newRewritings()}
	if s.rep.Checkpoint, err = checkpoint.Open(o.Checkpoint, o.Keys); err != nil {
		return nil, err
	}
	files, err := layout.List(o.Dir)
	if files == nil {
		return nil, err
	}
	if err != nil {
		s.changed("%v", err)
	}
	s.files = files
	if s.rep.Server, s.used, err = bolt.InUse(o.Dir); err != nil {
		return nil, fmt.Errorf("look for a server: %w", err)
	}
	// With a collector at work: what the log has now is what the partitions must have; what it has
	// afterwards says which of them were dropped meanwhile.
	if err := s.readRoots(ctx); err != nil {
		return nil, err
	}
	if s.codec, err = group.NewCodec(1); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.codec.Close()) }()
	if err := s.partitions(ctx); err != nil {
		return nil, err
	}
	if err := s.log(ctx); err != nil {
		return nil, err
	}
	if other := s.otherStore(); other != "" {
		s.rep.Changed = []string{other}
		return s.rep, nil
	}
	s.roots()
	s.compare()
	if err := s.proveRewritten(ctx); err != nil {
		return s.rep, err
	}
	return s.rep, s.elsewhere(ctx)
}

// entry is a leaf of the log, without what is read again when it is named.
type entry struct {
	index        int64
	kind         seal.Kind
	at           int64
	part         string
	batch        uint64
	first, last  uint64
	groups       uint64
	flags        uint64
	before       [32]byte // of a change of holds: the list before
	hash         [32]byte
	pieces       uint64
	minMs, maxMs int64
	events       uint64
	why          string
	hosts        string // in words
	unread       bool   // its text cannot be read
	gone         bool   // of a state that the store has left
}

// hashKinds are kinds of hashes that leaves have of a batch: of all bytes, of pieces.
type hashKinds struct{ flat, tree bool }

// found is a group in a partition.
type found struct {
	part   string
	sum    group.Sum
	events uint64
	minMs  int64
	maxMs  int64
	err    error  // it cannot be read
	forged bool   // the log's root of its events is another one than theirs
	hidden string // why searches pass over it, or may; "" where they do not
}

// sealed is one run of Sealed.
type sealed struct {
	o       SealedOptions
	rep     *SealedReport
	files   *layout.Files
	used    bool // a collector has the store
	codec   *group.Codec
	settled int64                // leaves of the log before the partitions were read
	logged  uint64               // the last batch among them
	sealed  map[uint64][32]byte  // by batch: the roots of events that they have
	kinds   map[uint64]hashKinds // by batch: as what they have its hash
	blind   bool                 // some of their texts are lost, and
	texts   map[tlog.Hash][]byte // a partition may have them

	ids    []seglog.ID
	found  map[uint64]found          // groups by batch
	leaves []partLeaf                // that the partitions have
	twice  []string                  // groups that are in two partitions
	lastID uint64                    // the last batch that the partitions know of
	parts  map[string]bool           // whose file is there
	rows   map[string]*layout.RowSum // what these have of hosts' completeness
	made   map[string]*foundMade     // partitions that compaction has made
	again  *rewritings               // what the log says of these
	// unbelieved are rewritings that neither the checkpoint has, nor the key vouches for.
	unbelieved []*rewriting
	entries    []entry
	batches    map[uint64]int    // the newest entry of a batch
	dropped    map[string]*entry // the newest word of a partition's being dropped that is signed
	// saidDropped has those that are not.
	saidDropped map[string]*entry
	accounts    map[string]*entry // the newest signed word of a partition's rows
	holds       []*entry          // signed or not
	edited      []int64           // leaves whose text is not what their hash was made of
	kept        []keptRoot        // checkpoints that the log keeps, by the same key
	root        seal.Roots
	atRoot      bool // the log has the checkpoint's root
	// signedTo is how many leaves somebody with the key has signed.
	signedTo int64
}

// keptRoot is a checkpoint that the log keeps; holds says whether the leaves are what it signed.
type keptRoot struct {
	checkpoint.Checkpoint
	holds, seen bool
}

func (s *sealed) changed(format string, args ...any) {
	s.rep.Changed = append(s.rep.Changed, fmt.Sprintf(format, args...))
}

func (s *sealed) notef(format string, args ...any) {
	s.rep.Notes = append(s.rep.Notes, fmt.Sprintf(format, args...))
}

// otherStore says that the store is not the one of the checkpoint; "" when it is, or nobody knows.
func (s *sealed) otherStore() string {
	votes := map[string]int{}
	for _, id := range s.ids {
		if id != (seglog.ID{}) {
			votes[id.String()]++
		}
	}
	want := s.rep.Checkpoint.Store
	if len(votes) == 0 || votes[want] > 0 {
		return ""
	}
	for id := range votes {
		return fmt.Sprintf("another store: the checkpoint is of %s, this is %s", want, id)
	}
	return ""
}

func when(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05Z")
}

// span is the times of events, in words.
func span(from, to int64) string {
	return fmt.Sprintf("events of %s to %s", when(from), when(to))
}
