package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// DefaultInterval is how often a checkpoint is signed at least, when anything changed.
const DefaultInterval = 10 * time.Minute

var (
	// ErrNoKey says that the collector has no key, and so signs nothing.
	ErrNoKey = errors.New("no key: `collector seal init` makes one, and seal_key says where it is")
	// ErrStopped says that nothing is signed, and why.
	ErrStopped = errors.New("nothing is signed: the log does not go on from what was signed before; look into it, then `collector seal accept`")
	// ErrNothing says that there is nothing to accept.
	ErrNothing = errors.New("there is nothing to accept: the log goes on from what was signed")
	// ErrNoLog says that the store has no log: it is opened to be read, and was never written by a
	// collector that keeps one.
	ErrNoLog = errors.New("the store has no log")
)

// LogConfig of OpenLog.
type LogConfig struct {
	Tree  *Tree  // nil: the store has none
	Store string // the store's folder
	FS    fsys.FS
	// Signer is nil where there is no key. Beside is a file where the newest checkpoint is kept, too: outside of
	// the store, so that a store that is put back is noticed. "": none.
	Signer note.Signer
	Public string // the public part of the key
	Beside string
	// CatchUp takes into the tree what the place has stored, with trees so that single events of it can be proved; nil for a
	// store that is opened to be read.
	CatchUp  func(ctx context.Context, trees bool) error
	Sealed   <-chan struct{} // a partition was sealed
	Interval time.Duration   // DefaultInterval when 0
	Now      func() time.Time
	Log      hclog.Logger
	// Record writes a record of the collector's own, DAEMON_ERR, in words as they stand behind its time.
	Record func(format string, args ...any)
}

// Log signs what the tree has. Any goroutine may call its methods.
type Log struct {
	cfg LogConfig

	signing sync.Mutex // held by Checkpoint and Accept; taken before mu

	mu      sync.Mutex // guards everything below
	latest  []byte
	last    checkpoint.Checkpoint
	mine    bool  // latest is by the present key
	end     int64 // of the file of checkpoints
	stopped string
	epoch   int64
	errors  uint64
	failed  error // of the last attempt
	signed  uint64
	changed chan struct{}
}

// Status is how a log stands.
type Status struct {
	Size     int64     // leaves in the tree
	Batch    uint64    // the last batch among them
	Signing  bool      // there is a key
	Public   string    // its public part
	Last     time.Time // of the newest checkpoint; zero: none
	LastSize int64     // its leaves
	Signed   uint64    // checkpoints since the start
	Errors   uint64    // attempts that failed, since the start
	Error    error     // of the last attempt; nil when it succeeded
	Stopped  string    // why nothing is signed, although there is a key; "" when all is well
}

// OpenLog reads the newest checkpoint and compares the tree with it. A tree that does not go on from it is no
// error: Status says so, and nothing is signed.
func OpenLog(cfg LogConfig) (*Log, error) {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.FS == nil {
		cfg.FS = fsys.OS
	}
	l := &Log{cfg: cfg, changed: make(chan struct{})}
	if cfg.Tree == nil {
		return l, nil
	}
	text, end, err := lastCheckpoint(cfg.FS, l.path())
	if err != nil {
		return nil, fmt.Errorf("read the last checkpoint: %w", err)
	}
	l.end = end
	if l.stopped, err = Stopped(cfg.Store); err != nil {
		return nil, err
	}
	if text != nil {
		l.take(text, "the last checkpoint of the store")
	}
	if cfg.Beside != "" {
		beside, err := fsys.ReadRegular(cfg.Beside, checkpoint.MaxBytes)
		if err != nil && !missing(err) {
			return nil, fmt.Errorf("read the last checkpoint: %w", err)
		}
		if err == nil && !bytes.Equal(beside, text) {
			l.take(beside, cfg.Beside)
		}
	}
	if l.stopped != "" {
		l.report(l.stopped)
	}
	return l, nil
}

func (l *Log) path() string { return filepath.Join(l.cfg.Store, Dir, checkpointsName) }

// take compares the tree with a checkpoint that was kept, and makes it the newest one unless a newer is known.
// Open alone calls it.
func (l *Log) take(text []byte, from string) {
	c, err := checkpoint.Parse(text)
	if err != nil {
		l.stop(fmt.Sprintf("%s cannot be read: %v", from, err))
		return
	}
	if c.Size > l.cfg.Tree.Size() && l.cfg.CatchUp != nil { // the log's end is lost, perhaps: the place has it still
		if err := l.cfg.CatchUp(context.Background(), true); err != nil {
			l.cfg.Log.Warn("what is stored cannot be taken into the log", "error", err)
		}
	}
	// What can't be read now is compared before the next signature.
	if why, err := l.differs(c); err == nil && why != "" {
		l.stop(fmt.Sprintf("%s, of %s, does not hold any more: %s", from, c.Time.Format(time.RFC3339), why))
	}
	l.epoch = max(l.epoch, c.Epoch)
	if l.latest == nil || c.Epoch > l.last.Epoch || c.Epoch == l.last.Epoch && c.Size > l.last.Size {
		l.latest, l.last = text, c
		l.mine = l.isMine(text)
	}
}

// isMine reports whether a checkpoint is signed by the present key.
func (l *Log) isMine(text []byte) bool {
	if l.cfg.Signer == nil {
		return false
	}
	v, err := checkpoint.ReadVerifiers(l.cfg.Public)
	if err != nil {
		return false
	}
	_, err = checkpoint.Open(text, note.VerifierList(v...))
	return err == nil
}

// differs returns why the tree does not go on from a checkpoint; "" when it does. An error says that it cannot be
// told now: a disk that fails once is no reason to sign no more.
func (l *Log) differs(c checkpoint.Checkpoint) (why string, err error) {
	t := l.cfg.Tree
	switch size := t.Size(); {
	case c.Store != t.id.String():
		return fmt.Sprintf("it is of the store %s, this is %s", c.Store, t.id), nil
	case c.Size > size:
		return fmt.Sprintf("the log had %d leaves, and has %d: an older copy of the store was put back, or the log was cut", c.Size, size), nil
	}
	root, err := t.Root(c.Size)
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Sprintf("the log was cut: %v", err), nil
	case err != nil:
		return "", err
	case root != c.Root:
		return fmt.Sprintf("the first %d leaves are others than they were: the log was changed", c.Size), nil
	}
	return "", nil
}

// stop has nothing signed any more, and writes down why.
func (l *Log) stop(why string) {
	if l.cfg.CatchUp != nil { // not for a store that is only read
		if err := Stop(l.cfg.FS, l.cfg.Store, why); err != nil {
			l.cfg.Log.Error("it cannot be written down that nothing is signed", "error", err)
		}
	}
	if l.stopped != "" {
		why = l.stopped + "\n" + why
	}
	l.stopped = why
}

// report says that nothing is signed, in the log and as a record of our own.
func (l *Log) report(why string) {
	l.cfg.Log.Error("the store's log does not go on from what was signed before: nothing is signed until `collector seal accept`", "why", why)
	if l.cfg.Record != nil {
		l.cfg.Record("op=seal-broken leaves=%d signed=%d store=%s res=failed", l.cfg.Tree.Size(), l.last.Size, l.cfg.Tree.id)
	}
}

// Checkpoint takes in what is stored, and signs; without anything new it returns the last checkpoint. Errors: ErrNoKey,
// ErrStopped, ErrNoLog.
func (l *Log) Checkpoint(ctx context.Context) (text []byte, c checkpoint.Checkpoint, err error) {
	l.signing.Lock()
	defer l.signing.Unlock()
	return l.attempt(ctx)
}

// attempt signs, and notes what became of it.
func (l *Log) attempt(ctx context.Context) (text []byte, c checkpoint.Checkpoint, err error) {
	text, c, err = l.sign(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed = err; err != nil && !errors.Is(err, ErrNoKey) && !errors.Is(err, ErrNoLog) {
		l.errors++
	}
	return text, c, err
}

func (l *Log) sign(ctx context.Context) (text []byte, c checkpoint.Checkpoint, err error) {
	t := l.cfg.Tree
	if t == nil {
		return nil, c, ErrNoLog
	}
	if l.cfg.CatchUp != nil {
		if err := l.cfg.CatchUp(ctx, l.cfg.Signer != nil); err != nil {
			return nil, c, fmt.Errorf("take what is stored into the log: %w", err)
		}
	}
	if l.cfg.Signer == nil {
		return nil, c, ErrNoKey
	}
	l.mu.Lock()
	latest, last, mine, end, stopped := l.latest, l.last, l.mine, l.end, l.stopped
	l.mu.Unlock()
	if stopped == "" && latest != nil {
		// Somebody may have changed the files meanwhile.
		why, err := l.differs(last)
		if err != nil {
			return nil, c, fmt.Errorf("compare the log with the last checkpoint: %w", err)
		}
		if why != "" {
			l.mu.Lock()
			l.stop(fmt.Sprintf("the last checkpoint, of %s, does not hold any more: %s", last.Time.Format(time.RFC3339), why))
			stopped = l.stopped
			l.mu.Unlock()
			l.report(stopped)
		}
	}
	if stopped != "" {
		return nil, c, fmt.Errorf("%w: %s", ErrStopped, stopped)
	}
	l.mu.Lock()
	epoch := l.epoch
	l.mu.Unlock()
	c = checkpoint.Checkpoint{Epoch: epoch, Origin: l.cfg.Signer.Name(), Size: t.Size(), Time: l.cfg.Now().UTC().Truncate(time.Second), Store: t.id.String()}
	if latest != nil && mine && c.Size == last.Size {
		return latest, last, nil
	}
	if c.Root, err = t.Root(c.Size); err != nil {
		return nil, c, err
	}
	if text, err = checkpoint.Sign(c, l.cfg.Signer); err != nil {
		return nil, c, err
	}
	if end, err = addCheckpoint(l.cfg.FS, l.path(), text, end); err != nil {
		return nil, c, fmt.Errorf("keep the checkpoint: %w", err)
	}
	if l.cfg.Beside != "" {
		if err := fsys.ReplaceOn(l.cfg.FS, l.cfg.Beside, text, 0o600); err != nil {
			l.cfg.Log.Warn("the newest checkpoint cannot be kept beside the key: that an older store is put back may not be noticed", "error", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest, l.last, l.mine, l.end = text, c, true, end
	l.signed++
	close(l.changed)
	l.changed = make(chan struct{})
	return text, c, nil
}

// Run signs at each seal of a partition, and every Interval, until ctx is done. What is stored in between it takes in
// some of the time, so that little is left to be done before a checkpoint. Without a key there is no haste.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(l.cfg.Interval)
	defer tick.Stop()
	between := time.NewTicker(max(l.cfg.Interval/perInterval, 1))
	defer between.Stop()
	due := l.cfg.Signer != nil
	for {
		if due {
			if _, _, err := l.Checkpoint(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrNoKey) && !errors.Is(err, ErrStopped) {
				l.cfg.Log.Error("no checkpoint could be signed; it is tried again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			due = true
		case <-l.cfg.Sealed:
			due = true
		case <-between.C:
			due = false
			l.prepare(ctx)
		}
	}
}

// perInterval is how often between two checkpoints what was stored is taken in.
const perInterval = 10

// prepare takes in what is stored, for the checkpoint to come, which says what goes wrong.
func (l *Log) prepare(ctx context.Context) {
	if l.cfg.Signer == nil || l.cfg.CatchUp == nil || l.cfg.Tree == nil {
		return
	}
	l.signing.Lock()
	defer l.signing.Unlock()
	if err := l.cfg.CatchUp(ctx, true); err != nil {
		l.cfg.Log.Debug("what was stored is not in the log yet", "error", err)
	}
}

// maxReason bounds the words of who accepts a break: who that is stands behind them.
const maxReason = 500

// CheckReason returns what is wrong with the words of who accepts a break; nil: nothing.
func CheckReason(reason string) error {
	if len(reason) > maxReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
		return fmt.Errorf("a reason is one line of at most %d bytes", maxReason)
	}
	return nil
}

// Accept has the log go on although it does not go on from what was signed: who and why stand in it
// from then on, as a leaf. It signs at once.
func (l *Log) Accept(ctx context.Context, why string) (text []byte, c checkpoint.Checkpoint, err error) {
	l.signing.Lock()
	defer l.signing.Unlock()
	t := l.cfg.Tree
	switch {
	case t == nil:
		return nil, c, ErrNoLog
	case l.Status().Stopped == "":
		return nil, c, ErrNothing
	case l.cfg.CatchUp == nil:
		return nil, c, errors.New("the store is opened to be read")
	}
	if err := l.cfg.CatchUp(ctx, l.cfg.Signer != nil); err != nil {
		return nil, c, err
	}
	leaf := &Leaf{Kind: Accepted, Store: t.id, At: l.cfg.Now().UnixMilli(), Why: Clip(why)}
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	if why, err := l.differs(last); err != nil {
		return nil, c, err
	} else if why != "" {
		leaf.Size, leaf.Hash = uint64(last.Size), last.Root
	}
	if err := t.Append(leaf); err != nil {
		return nil, c, err
	}
	if err := resume(l.cfg.FS, l.cfg.Store); err != nil {
		return nil, c, err
	}
	l.mu.Lock()
	l.epoch++
	l.stopped, l.latest, l.last, l.mine = "", nil, checkpoint.Checkpoint{}, false
	l.mu.Unlock()
	return l.attempt(ctx)
}

// Verifier returns the public part of the key; "" where there is none.
func (l *Log) Verifier() string { return l.cfg.Public }

// Latest returns the newest checkpoint; nil while there is none.
func (l *Log) Latest() (text []byte, c checkpoint.Checkpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest, l.last
}

// Changed is closed when there is another checkpoint.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Consistency is the tree's; ErrNoLog.
func (l *Log) Consistency(from, to int64) (tlog.TreeProof, error) {
	if l.cfg.Tree == nil {
		return nil, ErrNoLog
	}
	return l.cfg.Tree.Consistency(from, to)
}

// Inclusion is the tree's; ErrNoLog.
func (l *Log) Inclusion(leaf, size int64) (tlog.RecordProof, error) {
	if l.cfg.Tree == nil {
		return nil, ErrNoLog
	}
	return l.cfg.Tree.Inclusion(leaf, size)
}

// Leaf returns a batch's leaf, and which it is. Errors: ErrNoLeaf, ErrNoLog.
func (l *Log) Leaf(batch uint64) (index int64, leaf []byte, err error) {
	if l.cfg.Tree == nil {
		return 0, nil, ErrNoLog
	}
	return l.cfg.Tree.Find(batch)
}

// MadeBy returns the newest leaf that says how a partition was made of others, and which it is. Errors: ErrNoLeaf, ErrNoLog.
func (l *Log) MadeBy(part string) (index int64, leaf []byte, err error) {
	if l.cfg.Tree == nil {
		return 0, nil, ErrNoLog
	}
	index, leaf, _, err = l.cfg.Tree.MadeBy(part)
	return index, leaf, err
}

// Status returns how the log stands.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Signing: l.cfg.Signer != nil, Public: l.cfg.Public, Last: l.last.Time, LastSize: l.last.Size, Signed: l.signed,
		Errors: l.errors, Error: l.failed, Stopped: l.stopped}
	if l.cfg.Tree != nil {
		s.Size, s.Batch = l.cfg.Tree.Size(), l.cfg.Tree.LastBatch()
	}
	if errors.Is(s.Error, ErrNoKey) || errors.Is(s.Error, ErrNoLog) {
		s.Error = nil
	}
	return s
}
