package roster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Interval is how often a collector writes that it runs, and what it has received and stored: what is said of one that is gone is as old at most.
const Interval = 5 * time.Second

const (
	// sayTime is how long that this collector runs may take to be written: where the server that is asked first hangs, another one is asked before the others take this
	// collector for silent. Where that fails, more time is given each time, up to mostTime: the cluster may be slow.
	sayTime  = 10 * time.Second
	mostTime = time.Minute
	// copyTime bounds one copying of accounts: what was dropped that long before a copy was taken may not be in it (dropsBack).
	copyTime = 5 * time.Minute
)

// loop is what is done again and again.
type loop struct {
	every        time.Duration
	within, most time.Duration // what one time may take; at most, behind failures
	what         string        // that it fails, for the log
	do           func(context.Context) error
}

// Run writes what this collector is and has, and reads what others have, until ctx ends. That it runs is written beside all that may take longer.
func (r *Roster) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, l := range []loop{
		{Interval, sayTime, mostTime, "that this collector runs cannot be written to the cluster: the others take it for silent after half a minute", func(ctx context.Context) error {
			return r.say(ctx, false)
		}},
		{Interval, mostTime, mostTime, "what this collector has of hosts cannot be written to the cluster: the others go by what it wrote before", func(ctx context.Context) error {
			_, err := r.enter(ctx, false)
			return err
		}},
		{adoptEvery, mostTime, mostTime, "what other collectors remember of senders cannot be read from the cluster", func(ctx context.Context) error {
			_, err := r.members(ctx)
			return errors.Join(err, r.Adopt(ctx))
		}},
		{copyEvery, copyTime, copyTime, "what this collector's account says cannot be written to the cluster: if this collector is away, the others go by what it wrote before", r.CopyAccounts},
	} {
		running.Go(func() { r.again(ctx, l) })
	}
	running.Wait()
}

// again does a thing again and again until ctx ends, soon for the first time. That it fails is logged once, until it succeeds.
func (r *Roster) again(ctx context.Context, l loop) {
	said, wait, within := false, min(Interval, l.every), l.within
	for {
		select {
		case <-time.After(wake.In(wait)):
		case <-ctx.Done():
			return
		}
		wait = l.every
		one, cancel := context.WithTimeout(ctx, within)
		err := l.do(one)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			said, within = false, l.within
			continue
		case !said:
			said = true
			r.cfg.Log.Warn(l.what, "error", err)
		}
		within = min(2*within, l.most)
	}
}
