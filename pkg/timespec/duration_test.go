package timespec

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "300ms": 300 * time.Millisecond, "2d": 2 * day, "1w": 7 * day,
		"1d12h": 36 * time.Hour, "2 hours": 2 * time.Hour, "1 day 2 hours": 26 * time.Hour, "0": 0,
		"": -1, "90": -1, "1.5d": -1, "-1h": -1, "+1h": -1, "1e3s": -1, "5x": -1, "h": -1, "1M": -1, "1y": -1, "an hour": -1, "9999999999999d": -1, "106751d106751d": -1,
	} {
		got, err := Duration(text)
		if (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}
