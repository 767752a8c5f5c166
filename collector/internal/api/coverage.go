package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Coverage implements fleet.QueryServer.
func (s *Service) Coverage(req *fleet.CoverageRequest, stream grpc.ServerStreamingServer[fleet.CoverageResponse]) error {
	return s.run(stream.Context(), req.GetVersion(), func(c *call) error {
		if n := len(req.GetHosts()); n > maxConditions {
			return fmt.Errorf("%w: %d hosts, %d is the most", ErrQuery, n, maxConditions)
		}
		return s.Source.Coverage(c.ctx, req, func(a *fleet.Coverage) error {
			if req.GetNote() {
				if a = Lacking(a); a == nil {
					return nil
				}
			}
			return c.send(func() error { return stream.Send(&fleet.CoverageResponse{Coverage: a}) })
		})
	})
}

// Coverage implements Source.
func (c *Client) Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error {
	req.Version = version
	return stream(ctx, c, req, c.q.Coverage, func(r *fleet.CoverageResponse) error {
		if r.GetCoverage() == nil {
			return errResponse
		}
		return fn(r.GetCoverage())
	})
}

// Lacking returns of an answer what is said beside a search: the host, its state, what is lost and
// why. It returns nil for a host whose trail is complete, or lacks only what the host still holds.
func Lacking(a *fleet.Coverage) *fleet.Coverage {
	switch a.GetState() {
	case ledger.Lost.String(), ledger.Unknown.String():
		return &fleet.Coverage{Host: a.GetHost(), State: a.GetState(), Lost: a.GetLost(), Causes: a.GetCauses(), Run: a.GetRun(), Unheard: a.GetUnheard()}
	}
	return nil
}

// FromAnswer returns an answer as a message; with intervals, those too.
func FromAnswer(a *ledger.Answer, intervals bool) *fleet.Coverage {
	out := &fleet.Coverage{
		Host: []byte(a.Host), State: a.State.String(), Lost: a.Lost, Events: a.Events, FromMs: a.From, ToMs: a.To,
		ByStatementsMs: a.ByStatements, BySerialsMs: a.BySerials, Records: a.Records, EventsStored: a.EventsStored,
		SaidMs: a.At, Unsent: a.Unsent, OldestMs: a.Oldest,
		Run: a.Run.Run, Boot: a.Run.Boot, Rules: a.Run.Rules, Registered: a.Run.Registered, Enabled: a.Run.Enabled, Invisible: a.Run.Invisible,
		UpMs: a.Up, DownMs: a.Down,
	}
	for _, s := range a.Causes {
		out.Causes = append(out.Causes, fromSum(&s))
	}
	for _, s := range a.Notes {
		out.Notes = append(out.Notes, fromSum(&s))
	}
	if intervals {
		for _, x := range a.Intervals {
			one := &fleet.CoverageInterval{
				Cause: x.Cause.String(), Hop: x.Cause.Hop(), State: x.Cause.State().String(), Records: x.N, FromMs: x.From, ToMs: x.To, DroppedMs: x.Dropped,
			}
			if x.Cause.Drop() {
				one.Was = x.Was.String()
			}
			out.Intervals = append(out.Intervals, one)
		}
	}
	return out
}

func fromSum(s *ledger.Sum) *fleet.CoverageCause {
	out := &fleet.CoverageCause{
		Cause: s.Cause.String(), Hop: s.Cause.Hop(), State: s.Cause.State().String(), Records: s.N, FromMs: s.From, ToMs: s.To, LengthMs: s.Length, DroppedMs: s.Dropped,
	}
	if s.Cause.Drop() {
		out.Was = s.Was.String()
	}
	return out
}
