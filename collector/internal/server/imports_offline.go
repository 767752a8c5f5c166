package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// OfflineImports are the imports of a store that no collector has.
type OfflineImports struct {
	imports
	journal *journal.Journal
	made    string // a folder for an empty store; "": none was made
}

// leastFree is how much of the disk an import leaves free where no collector says it.
const leastFree = 512 << 20

// errReplay is why a store is not opened to be changed: by another configuration than its collector's, records would become those of
// hosts whose names their senders may not use.
var errReplay = errors.New("its collector was killed, or has events under way, and what it accepted last is put into the store by its configuration: give that with --config FILE, or start the collector, which then imports what this command reads")

// OpenImports opens a store that no collector has, to import into it. What the journal has goes into the store, as when its
// collector starts, whose configuration cfg is; nil: it is not known, and where the journal has something, nothing is opened.
// A store that is not there is made. With dry nothing is changed. Errors: store.ErrInUse, and where the
// store's folder has none to be in.
func OpenImports(dir string, dry bool, cfg *Config, log hclog.Logger) (_ *OfflineImports, err error) {
	o := &OfflineImports{imports: imports{now: time.Now, log: log, maxDays: func() int { return 0 }}}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(filepath.Clean(dir))) // a store is made where a slip is unlikely
	}
	if err != nil {
		return nil, explain(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	if dry && len(entries) == 0 { // nothing is there to compare with, and nothing is to be made there
		if o.made, err = os.MkdirTemp("", "collector-import-"); err != nil {
			return nil, err
		}
		dir, dry = o.made, false
	}
	if o.store, err = engine.Open(engine.Options{Dir: dir, ReadOnly: dry, Logger: log}); err != nil {
		return nil, explain(err)
	}
	if err = o.openHead(dir, dry, cfg); err != nil {
		return nil, explain(err)
	}
	o.keep = hold.NewKeep(hold.Open(fsys.OS, dir, o.store), o.store, o.head.Also)
	return o, nil
}

// openHead opens the journal and the head.
func (o *OfflineImports) openHead(dir string, dry bool, cfg *Config) error {
	free := func() (free, total uint64, err error) { return fsys.OS.Space(dir) }
	w := space.New(space.Config{Space: free, Log: o.log})
	var ho head.Options
	if cfg != nil {
		if err := cfg.defaults(); err != nil {
			return err
		}
		trust, err := readTrusted(cfg)
		if err != nil {
			return err
		}
		ho = headOptions(cfg, trust, w)
	}
	ho.Place, ho.Events, ho.Logger, ho.TableBytes = o.store, o.store, o.log, w.TableBytes()
	jo := journal.Options{Dir: filepath.Join(dir, journalDir), Logger: o.log, ID: o.store.ID(), Known: o.store.Journal(), SegmentBytes: w.SegmentBytes()}
	if dry {
		h, err := head.OpenReadOnly(ho, jo)
		o.head = h
		return err
	}
	o.room = func() error {
		if n, _, err := free(); err == nil && n < leastFree {
			return fmt.Errorf("%d MiB are free on the store's disk: nothing more is imported: make room, and begin the import again: it goes on where it was", n>>20)
		}
		return nil
	}
	if cfg == nil {
		if err := o.nothingToReplay(jo); err != nil {
			return err
		}
	}
	jo.Changed = func(k seglog.Known, found []seglog.Damage) error { return keepJournal(o.store, k, found) }
	j, rec, err := journal.Open(jo)
	if err != nil {
		return err
	}
	o.journal = j
	logRecovery(o.log, rec)
	ho.Journal = j
	h, err := head.Open(ho)
	o.head = h
	return err
}

// nothingToReplay returns errReplay where the journal has what the store has not.
func (o *OfflineImports) nothingToReplay(jo journal.Options) error {
	state, err := o.store.State(context.Background())
	if err != nil {
		return fmt.Errorf("read the store's state: %w", err)
	}
	_, err = journal.ReadOnly(jo, journal.Place{LSN: state.LSN, Open: state.Open}, func(b *journal.Batch) error {
		if b.LSNs() > 0 && (b.Last() > state.LSN || len(state.Open) > 0) {
			return errReplay
		}
		return nil
	})
	if errors.Is(err, errReplay) {
		return errReplay
	}
	return nil // what else is wrong with it, opening it says
}

// Close ends what was begun in good order.
func (o *OfflineImports) Close() (err error) {
	if o.head != nil {
		err = o.head.Close()
	}
	if o.journal != nil {
		err = errors.Join(err, o.journal.Close())
	}
	if o.store != nil {
		err = errors.Join(err, o.store.Close())
	}
	if o.made != "" {
		err = errors.Join(err, os.RemoveAll(o.made))
	}
	return err
}

// Self is who runs this process, as the fields of a record.
func Self() string {
	return fmt.Sprintf("auid=%s uid=%d pid=%d", daemonrec.ProcessID("self", "loginuid"), os.Getuid(), os.Getpid())
}
