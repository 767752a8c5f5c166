package timespec

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Duration reads how long something takes: 300ms, 90s, 5m, 1h30m, 2d, 1w or "2 hours".
func Duration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%.80q is not a time such as 90s, 5m, 1h30m, 2d or 1w", text)
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 || strings.HasPrefix(text, "+") {
			return 0, bad
		}
		return d, nil
	}
	total, rest := time.Duration(0), strings.TrimSpace(text)
	for first := true; rest != "" || first; first = false {
		m := spanForm.FindStringSubmatch(rest)
		if m == nil {
			return 0, bad
		}
		rest = strings.TrimSpace(rest[len(m[0]):])
		n, err := digits(m[1])
		unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[unitOf(m[2])]
		if err != nil || unit == 0 || n > (math.MaxInt64-int64(total))/int64(unit) {
			return 0, bad
		}
		total += time.Duration(n) * unit
	}
	return total, nil
}
