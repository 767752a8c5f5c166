package server

import (
	"cmp"
	"context"
	"math"
	"net"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/roster"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// enterWait is how long a start, and an end, wait for the cluster to take what this collector says of itself.
const enterWait = 10 * time.Second

// openRoster has the collector be one of those that keep events in the same cluster, where there is one. The others hear of it before anything is
// accepted: they ask it from then on.
func (s *Server) openRoster() {
	listed, err := store.Able[store.Listed](s.store, "list collectors")
	if err != nil || listed.Roster() == nil {
		return
	}
	self := store.Member{
		Store: storeID(s.store), Name: cmp.Or(s.cfg.ClusterName, s.cfg.Node), Address: s.clusterAddress(), Version: s.cfg.Version, Started: s.started.UnixMilli(),
	}
	if s.seal != nil {
		self.Key = s.seal.Status().Public
	}
	c := roster.Config{
		Roster: listed.Roster(), Self: self, Own: &live{s.head, s}, Refresh: s.head.Refresh,
		Standings: func() ([]head.Standing, uint64) {
			upTo := s.head.Stats().StoredID // first: what is stored behind it may wait for the cluster
			if d := listed.Delivered(); d != math.MaxUint64 {
				upTo = d
			}
			return s.head.Standings(upTo)
		},
		Unaged: listed.Unaged,
		Waits:  func() bool { return listed.Delivered() != math.MaxUint64 },
		Log:    s.cfg.Log.Named("cluster"), Now: s.cfg.Now,
		Senders: s.senders, Adopt: s.adopt,
	}
	if s.trust != nil {
		c.Dial = func(ctx context.Context, address string) (roster.Client, error) {
			return api.DialTLS(ctx, address, s.trust.Client(pki.ServerOf(address), "h2"), s.trust.Explain)
		}
	}
	s.roster = roster.New(c)
	s.enter(false)
}

// adopt has the journal remember what another collector does of its senders.
func (s *Server) adopt(member string, changed []store.KV) error {
	list := make([]journal.KV, len(changed))
	for i, kv := range changed {
		list[i] = journal.KV{Key: kv.Key, Value: kv.Value}
	}
	return s.journal.Adopt(member, list)
}

// enter writes what this collector is and has.
func (s *Server) enter(stopped bool) {
	ctx, cancel := context.WithTimeout(context.Background(), enterWait)
	defer cancel()
	err := s.roster.Enter(ctx, stopped)
	switch {
	case err != nil:
	case stopped:
		err = s.roster.CopyAccounts(ctx)
	default:
		err = s.roster.Adopt(ctx)
	}
	if err != nil {
		s.cfg.Log.Warn("the cluster does not take what this collector says of itself; the others may not know that it runs, or that it has stopped", "error", err)
	}
}

// clusterAddress is where the other collectors of a cluster reach this one's gRPC port.
func (s *Server) clusterAddress() string {
	if s.cfg.ClusterAddress != "" || s.verified == nil {
		return s.cfg.ClusterAddress
	}
	for _, a := range s.verified.Addrs() {
		host, port, err := net.SplitHostPort(a.String())
		if err != nil {
			continue
		}
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			host = s.cfg.Node
		}
		return net.JoinHostPort(host, port)
	}
	return ""
}

// source is what answers questions: this collector, or all of its cluster.
func (s *Server) source() api.Source {
	if s.roster != nil {
		return s.roster
	}
	return &live{s.head, s}
}
