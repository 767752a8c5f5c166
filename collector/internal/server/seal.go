package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// DefaultSealKey is where the key that signs the store's log lies when nothing is said: not in the store,
// so that who puts an older store back does not put that back, too.
const DefaultSealKey = "/var/lib/auditfleet/seal/key"

// SealProves is what the log proves, where there is a key.
type SealProves string

// The words for it. To prove events alone, all text is hashed: that takes more than the rest of the seal and the account of
// completeness together.
const (
	ProveFrames SealProves = "frames" // events with the frames of their batch in which they lie
	ProveEvents SealProves = "events" // each one, without any other of its batch, too
)

// openSeal opens the log of the store, and the key that signs it, where there is one.
func (s *Server) openSeal() error {
	place, err := store.Able[seal.Keeper](s.store, "keep a log of what was stored")
	if err != nil {
		s.cfg.Log.Named("seal").Info("nothing is sealed", "why", err)
		return nil
	}
	events := s.cfg.SealProves == ProveEvents || s.remote() // of what is elsewhere no frames are kept by which it could be proved
	cfg := seal.LogConfig{
		Tree: place.Seals(), Store: s.cfg.Store, FS: fsys.OS, Sealed: place.Sealed(), Interval: s.cfg.SealInterval,
		Now: s.cfg.Now, Log: s.cfg.Log.Named("seal"),
		Record:  func(format string, args ...any) { s.own.Add("DAEMON_ERR", format, args...) },
		CatchUp: func(ctx context.Context, trees bool) error { return place.CatchUp(ctx, trees && events) },
	}
	if s.cfg.SealKey != "" {
		signer, public, err := seal.ReadKey(s.cfg.SealKey)
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.cfg.SealKey == DefaultSealKey:
			cfg.Log.Info("the store's log is kept and not signed: `collector seal init` makes a key", "key", s.cfg.SealKey)
		case errors.Is(err, fs.ErrNotExist):
			cfg.Log.Warn("the key that signs the store's log is not there: `collector seal init --key FILE` makes one, and the next start uses it", "key", s.cfg.SealKey)
		case err != nil:
			return fmt.Errorf("seal_key: %w", err)
		default:
			cfg.Signer, cfg.Public, cfg.Beside = signer, public, s.cfg.SealKey+seal.BesideSuffix
			place.ProveEvents(events)
		}
	}
	if s.seal, err = seal.OpenLog(cfg); err == nil {
		place.VouchWith(s.seal.Vouch) // before anything is compacted
	}
	return err
}

// AcceptLog has the log of a store that no collector has go on, signed by the key in a file where that is there.
func AcceptLog(ctx context.Context, dir, key, reason string, log hclog.Logger) (text []byte, err error) {
	if _, err := fsys.OS.Stat(filepath.Join(dir, seal.Dir)); err != nil {
		return nil, explain(err)
	}
	st, err := engine.Open(engine.Options{Dir: dir, Logger: log})
	if err != nil {
		return nil, explain(err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	place, err := store.Able[seal.Keeper](st, "keep a log of what was stored")
	if err != nil {
		return nil, errors.Join(seal.ErrNoLog, err)
	}
	l, err := openLogOf(place, dir, key, log)
	if err != nil {
		return nil, err
	}
	text, _, err = l.Accept(ctx, reason)
	if errors.Is(err, seal.ErrNoKey) {
		err = nil
	}
	return text, err
}

// lastCheckpoint signs what was stored at the end.
func (s *Server) lastCheckpoint() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _, err := s.seal.Checkpoint(ctx)
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrStopped) || errors.Is(err, seal.ErrNoLog) {
		return nil
	}
	if s.remote() && errors.Is(err, context.DeadlineExceeded) { // it hangs: what it was to say is said, and signed, after the next start
		s.cfg.Log.Warn("the store's log has no checkpoint of this end: the cluster does not say in time what others have dropped", "error", err)
		return nil
	}
	return err
}

// Seal returns the store's log.
func (s *Server) Seal() *seal.Log { return s.seal }

// sealer answers the query API's calls about the log; it implements api.Sealer.
type sealer struct{ s *Server }

// sealer returns who answers calls about the log; nil where there is none.
func (s *Server) sealer() api.Sealer {
	if s.seal == nil {
		return nil
	}
	return sealer{s}
}

// Checkpoint implements api.Sealer.
func (x sealer) Checkpoint(ctx context.Context, sign bool, from int64) (*fleet.CheckpointResponse, error) {
	l := x.s.seal
	if sign {
		// What was acknowledged and is complete is stored first, so that it is in there.
		if err := x.s.head.Flush(ctx); err != nil {
			return nil, err
		}
		if _, _, err := l.Checkpoint(ctx); err != nil && !errors.Is(err, seal.ErrStopped) && !errors.Is(err, seal.ErrNoKey) {
			return nil, err
		}
	}
	text, c := l.Latest()
	st := l.Status()
	out := &fleet.CheckpointResponse{Text: text, Size: st.Size, Batch: st.Batch, Key: st.Public, Stopped: st.Stopped}
	if st.Error != nil {
		out.Error = st.Error.Error()
	}
	if from > 0 {
		proof, err := l.Consistency(from, c.Size)
		if err != nil {
			return nil, err
		}
		for _, h := range proof {
			out.Proof = append(out.Proof, h[:])
		}
	}
	return out, nil
}

// AcceptLog implements api.Sealer.
func (x sealer) AcceptLog(ctx context.Context, reason string) (*fleet.CheckpointResponse, error) {
	if _, _, err := x.s.seal.Accept(ctx, reason); err != nil && !errors.Is(err, seal.ErrNoKey) {
		return nil, err
	}
	x.s.own.Add("DAEMON_CONFIG", "op=seal-accepted store=%s res=success", x.s.store.ID())
	return x.Checkpoint(ctx, false, 0)
}

// sealSample is the log's part of the metrics.
func (s *Server) sealSample() metrics.SealSample {
	st := s.seal.Status()
	out := metrics.SealSample{Size: st.Size, Signed: st.Signed, Errors: st.Errors, Stopped: st.Stopped != "", SignedSize: st.LastSize}
	if !st.Last.IsZero() {
		out.Last = float64(st.Last.Unix())
	}
	return out
}
