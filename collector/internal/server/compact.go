package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// Defaults of compaction.
const (
	DefaultCompactAfter       = time.Hour
	DefaultCompactImportAfter = 24 * time.Hour
	DefaultCompactGroups      = 16
	DefaultEventAge           = 400 // days
	DefaultCompactRate        = "64M"

	// lookEvery is how often is looked for days that wait for compaction.
	lookEvery = time.Minute
	// alarmingTries is how often something could not be compacted, over three hours, before an alert says so.
	alarmingTries = 3
)

// compaction compacts days in the background, and merges parts of the one that runs.
type compaction struct {
	s     *Server
	store store.Compactor // nil: nothing is compacted
	log   hclog.Logger

	mu    sync.Mutex // guards count
	count metrics.CompactSample
}

// openCompaction sets up compaction, where it is asked for and the store can do it.
func (s *Server) openCompaction() {
	s.compaction = &compaction{s: s, log: s.cfg.Log.Named("compact")}
	if !s.cfg.Compact {
		return
	}
	c, err := compactor(s.store)
	if err != nil {
		s.compaction.log.Info("nothing is compacted", "why", err)
		return
	}
	s.compaction.store = c
}

// compactor returns what compacts a store's days; an error where nothing is to be done, for the engine merges its events itself.
func compactor(st store.Store) (store.Compactor, error) {
	c, err := store.Able[store.Compactor](st, "compact days")
	if err != nil {
		return nil, fmt.Errorf("%w, and need not: it merges what it has by itself", err)
	}
	return c, nil
}

// run compacts one day after the other until ctx ends.
func (c *compaction) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		for ctx.Err() == nil && c.one(ctx) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// one compacts a day; false where none waits for it.
func (c *compaction) one(ctx context.Context) bool {
	if c.s.refusing() {
		return false
	}
	done, err := c.aside(ctx)
	if ctx.Err() != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, store.ErrClosed):
		return false
	case err != nil:
		c.count.Failed++
		c.log.Warn("what could not be compacted stays as it is; it is tried again after an hour, and after twice as long each time that it fails again", "error", err)
	case done == nil:
		return false
	default:
		n := &c.count
		n.Done, n.RawBytes, n.Seconds = n.Done+1, n.RawBytes+done.RawBytes, n.Seconds+done.Took.Seconds()
		n.Saved += int64(done.Before) - int64(done.After)
		logCompacted(c.log, done)
	}
	return true
}

// aside compacts a day beside everything else. Its thread gives way to others, but a goroutine runs only while it has one of
// the runtime's processors: of two, one would be held by a thread that gets a tenth of its time, and what comes in would have to do
// with the other. So there is one more meanwhile.
func (c *compaction) aside(ctx context.Context) (*store.Compacted, error) {
	how := c.how()
	if n, _ := c.store.Compactable(how); n > 0 {
		n := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(n + 1)
		defer runtime.GOMAXPROCS(n)
	}
	return c.store.Compact(ctx, how)
}

// how is what the settings say, with the room that is not to be taken.
func (c *compaction) how() store.Compaction {
	how := c.s.cfg.Compaction
	limits := c.s.retention.Limits()
	how.Classes = limits.Rules.Classes()
	// A day's age is that of its events: a host that puts its clock back must not have them dropped at once. So what is older stays
	// with the day of its receipt, and all is kept for half of the shortest limit at least.
	if days := limits.Shortest(); days > 0 {
		how.Oldest = min(how.Oldest, days/2)
	}
	st := c.s.space.Status()
	how.Spare = st.Reserve + st.Limits.SpaceLeft.Of(st.Usage.Total)
	return how
}

func logCompacted(log hclog.Logger, done *store.Compacted) {
	log.Info("compacted", "partitions", fmt.Sprint(done.From), "into", fmt.Sprint(done.Into), "events", done.Events, "raw bytes", done.RawBytes, "disk bytes before", done.Before, "after", done.After,
		"took", done.Took.Round(time.Millisecond))
}

// sample is compaction's part of the metrics.
func (c *compaction) sample() metrics.CompactSample {
	c.mu.Lock()
	out := c.count
	c.mu.Unlock()
	if c.store != nil {
		out.Waiting, out.Bytes = c.store.Compactable(c.s.cfg.Compaction)
		out.Postponed = len(c.store.Uncompacted(c.s.cfg.Compaction))
	}
	return out
}

// uncompacted returns what could not be compacted and waits to be tried again, and how often that failed at most: "" for nothing.
func (c *compaction) uncompacted() (what string, times int) {
	if c.store == nil {
		return "", 0
	}
	list := c.store.Uncompacted(c.s.cfg.Compaction)
	for i, u := range list {
		if i == 0 {
			what = fmt.Sprintf("%s cannot be compacted since %s, and takes more room and longer to search: %v; it is tried again at %s", u.Part.Day, u.Since.UTC().Format(time.DateTime), u.Err, u.Next.UTC().Format(time.DateTime))
		}
		times = max(times, u.Times)
	}
	if len(list) > 1 {
		what += fmt.Sprintf("; so with %d more", len(list)-1)
	}
	return what, times
}

// CompactStore compacts all days that are over of a store that no collector has, and calls each with what was done. key is the file of the key that
// signs the store's log: without it nothing is compacted whose log was ever signed. It goes on behind a day that cannot be
// compacted, and returns why.
func CompactStore(ctx context.Context, dir, key string, how store.Compaction, log hclog.Logger, each func(*store.Compacted)) (err error) {
	st, err := engine.Open(engine.Options{Dir: dir, Logger: log})
	if err != nil {
		return explain(err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	c, err := compactor(st)
	if err != nil {
		return err
	}
	sign := func() error { return nil }
	if place, err := store.Able[seal.Keeper](st, "keep a log of what was stored"); err == nil && place.Seals() != nil {
		l, err := openLogOf(place, dir, key, log)
		if err != nil {
			return err
		}
		place.VouchWith(l.Vouch)
		sign = func() error {
			_, _, err := l.Checkpoint(ctx)
			if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrStopped) || errors.Is(err, seal.ErrNoLog) {
				return nil
			}
			return err
		}
	}
	if err := endDay(ctx, st, &how); err != nil {
		return err
	}
	var failed []error
	for n := 0; ; n++ {
		done, err := c.Compact(ctx, how)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if done == nil {
			if n > 0 {
				failed = append(failed, sign())
			}
			return errors.Join(failed...)
		}
		each(done)
	}
}

// endDay ends the part that was written last, where its day is over, so that it is compacted as well.
func endDay(ctx context.Context, st store.Store, how *store.Compaction) error {
	stats, err := st.Stats(ctx)
	if err != nil {
		return err
	}
	for _, p := range stats.Parts {
		if !p.Sealed && time.Since(p.Day.Time().AddDate(0, 0, 1)) > how.After {
			return st.Rotate(ctx)
		}
	}
	return nil
}

// openLogOf opens the log of a store that no collector has, with the key where its file is there.
func openLogOf(place seal.Keeper, dir, key string, log hclog.Logger) (*seal.Log, error) {
	cfg := seal.LogConfig{Tree: place.Seals(), Store: dir, FS: fsys.OS, Log: log,
		CatchUp: func(ctx context.Context, _ bool) error { return place.CatchUp(ctx, false) }}
	signer, public, err := seal.ReadKey(key)
	if err == nil {
		cfg.Signer, cfg.Public, cfg.Beside = signer, public, key+seal.BesideSuffix
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return seal.OpenLog(cfg)
}
