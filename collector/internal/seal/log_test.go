package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// planted copies a log to a filesystem that fails.
func planted(t *testing.T, f *faultfs.FS, from, to string) {
	t.Helper()
	must(t, errors.Join(f.MkdirAll(filepath.Join(to, Dir), 0o700), f.SyncDir("/"), f.SyncDir(to)))
	for _, name := range []string{leavesName, hashesName, indexName} {
		b, err := os.ReadFile(filepath.Join(from, Dir, name))
		must(t, err)
		file, err := f.OpenFile(filepath.Join(to, Dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		_, err = file.WriteAt(b, 0)
		must(t, errors.Join(err, file.Sync(), file.Close()))
	}
	must(t, f.SyncDir(filepath.Join(to, Dir)))
}

// TestSigningCrashes: whatever fails while a checkpoint is signed, and wherever the power goes, what was handed out is
// what the log goes on from, and it is signed on.
func TestSigningCrashes(t *testing.T) {
	t.Parallel()
	secret, public, err := checkpoint.Generate("hub1")
	must(t, err)
	signer, err := checkpoint.ReadSigner(secret)
	must(t, err)
	made, o := makeTree(t, fsys.OS, 2)
	must(t, made.Close())
	try := func(name string, fault func(f *faultfs.FS), crash func(f *faultfs.FS)) {
		t.Helper()
		f := faultfs.New(1)
		planted(t, f, o.Store, "/s")
		var out [][]byte
		next := uint64(2)
		// run signs three times, with a leaf more each time; what comes out of it is kept.
		run := func() (failed error) {
			tree, err := Open(Options{FS: f, Store: "/s", ID: o.ID, Write: true})
			if err != nil {
				return err
			}
			next = tree.LastBatch()
			l, err := OpenLog(LogConfig{Tree: tree, Store: "/s", FS: f, Signer: signer, Public: public, Now: func() time.Time { return time.Unix(1763805600, 0) },
				CatchUp: func(context.Context, bool) error {
					err := tree.Append(leafOf(next + 1))
					if err == nil {
						next++
					}
					return err
				}})
			for range 3 {
				if err != nil {
					break
				}
				var text []byte
				if text, _, err = l.Checkpoint(context.Background()); err == nil {
					out = append(out, text)
				}
				if l.Status().Stopped != "" {
					t.Fatalf("%s: nothing is signed any more: %s", name, l.Status().Stopped)
				}
				failed, err = errors.Join(failed, err), nil
			}
			return errors.Join(failed, err, tree.Close())
		}
		must(t, run())
		fault(f)
		failed := run()
		crash(f)
		if err := run(); err != nil {
			t.Fatalf("%s (%v): afterwards %v", name, failed, err)
		}
		tree, err := Open(Options{FS: f, Store: "/s", ID: o.ID})
		must(t, err)
		defer tree.Close()
		l := &Log{cfg: LogConfig{Tree: tree}}
		for i, text := range out {
			c, err := checkpoint.Parse(text)
			must(t, err)
			if why, err := l.differs(c); why != "" || err != nil {
				t.Fatalf("%s: checkpoint %d of %d does not hold: %s %v", name, i, len(out), why, err)
			}
		}
		if text, _, err := lastCheckpoint(f, "/s/"+Dir+"/"+checkpointsName); err != nil || string(text) != string(out[len(out)-1]) {
			t.Fatalf("%s: the last checkpoint that is kept is not the last one that was signed: %v", name, err)
		}
	}
	for n := 1; n < 60; n++ {
		cut := func(f *faultfs.FS) { f.CutPower(n) }
		try(fmt.Sprint("power cut at change ", n), cut, func(f *faultfs.FS) { f.Heal(); f.Crash() })
		try(fmt.Sprint("killed at change ", n), cut, func(f *faultfs.FS) { f.Heal(); f.Kill() })
	}
	for _, op := range faultfs.Ops() {
		for n := 1; n < 12; n++ {
			for _, err := range []error{errors.New("a broken disk"), fs.ErrPermission} {
				try(fmt.Sprint(op, " ", n, " fails"), func(f *faultfs.FS) { f.Fail(op, n, err) }, func(f *faultfs.FS) { f.Heal(); f.Crash() })
			}
		}
	}
}
