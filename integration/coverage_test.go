package integration

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// coverageOf is what `collector coverage --format json` says of a host.
type coverageOf struct {
	Host   string
	State  string
	Lost   uint64
	Causes []struct {
		Cause, Hop string
		Records    uint64
		Seconds    float64
	}
	Forwarder struct {
		Said   time.Time
		Run    string
		Unsent uint64
	}
}

// of returns a cause's records, 0 where the answer does not have it.
func (c *coverageOf) of(cause string) uint64 {
	n, _, _ := c.by(cause)
	return n
}

// seen is how many records the kernel says that it lost.
func (c *coverageOf) seen() uint64 { return c.of("kernel") + c.of("before-start") }

// by returns a cause's records and seconds; there is false where the answer does not have it.
func (c *coverageOf) by(cause string) (records uint64, seconds float64, there bool) {
	for _, x := range c.Causes {
		if x.Cause == cause {
			return x.Records, x.Seconds, true
		}
	}
	return 0, 0, false
}

// only reports whether the answer has no cause but some.
func (c *coverageOf) only(causes ...string) bool {
	for _, x := range c.Causes {
		if !slices.Contains(causes, x.Cause) {
			return false
		}
	}
	return true
}

// askCoverage asks about a host until the answer is good. args are coverage's, the host's name first.
func askCoverage(t *testing.T, c *harness.Collector, what string, good func(*coverageOf) bool, host string, args ...string) coverageOf {
	t.Helper()
	var last coverageOf
	var r *harness.Result
	var before time.Time
	if !harness.Poll(2*time.Minute, func() (ok bool) {
		time.Sleep(time.Until(before.Add(200 * time.Millisecond))) // each question is a process
		before = time.Now()
		var err error
		r, err = c.Command(time.Minute, "coverage", append([]string{"--format", "json", "-n", host}, args...)...)
		if err != nil || r.Code != 0 && r.Code != 3 {
			return false
		}
		last = coverageOf{}
		return json.Unmarshal(r.Stdout, &last) == nil && (r.Code == 0) == (last.State == "complete") && last.Host == host && good(&last)
	}) {
		if r == nil {
			t.Fatalf("%s: coverage could not be asked", what)
		}
		t.Fatalf("%s: exit %d: %s%s", what, r.Code, r.Stdout, r.Stderr)
	}
	return last
}

// at is a time in the words of -ts and -te.
func at(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
