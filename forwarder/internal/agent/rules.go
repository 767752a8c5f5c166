package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"time"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

const (
	// rulesRest is between two looks at the kernel's rules: a rule file of a thousand rules
	// is a thousand changes.
	rulesRest = 2 * time.Second
	// rulesEvery is how often they are looked at though no record tells of a change: while
	// auditing is off the kernel makes none.
	rulesEvery = 5 * time.Minute
)

// watchRules keeps the hash of the kernel's rules: it looks at them at once, and when a
// record says that they have changed. It ends with ctx.
func (k *kernelSource) watchRules(ctx context.Context) {
	failing := false
	for {
		if err := k.lookAtRules(); err != nil && !failing && ctx.Err() == nil {
			k.cfg.Logger.Info("the collector is not told which rules are loaded: the kernel does not list them", "error", err)
			failing = true
		} else if err == nil {
			failing = false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rulesRest):
		}
		select {
		case <-ctx.Done():
			return
		case <-k.rulesChanged:
		case <-time.After(rulesEvery):
		}
	}
}

// lookAtRules hashes the rules as the kernel lists them, and has the collector told where
// that is another hash.
func (k *kernelSource) lookAtRules() error {
	raw, err := k.listener.Control().Rules()
	if err != nil {
		k.rules.Store(nil) // better none than an old one
		return err
	}
	list := make([]*rules.Rule, len(raw))
	for i, b := range raw {
		if list[i], err = rules.Unmarshal(b); err != nil {
			k.rules.Store(nil)
			return err
		}
	}
	sum := rules.Digest(list)
	if was := k.rules.Load(); was != nil && bytes.Equal(*was, sum[:]) {
		return nil
	}
	now := sum[:]
	k.rules.Store(&now)
	k.cfg.Logger.Info("the kernel's rules", "rules", len(list), "sha256", hex.EncodeToString(now))
	if k.a.ship != nil {
		k.a.ship.sender.Tell()
	}
	return nil
}
