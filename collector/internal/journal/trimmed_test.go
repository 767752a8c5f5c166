package journal

import (
	"fmt"
	"strings"
	"testing"
)

// A journal that is trimmed while it is verified is read again; one that always is ends that, with an error.
func TestVerifyBesideTrims(t *testing.T) {
	t.Parallel()
	for _, trims := range []int{2, verifyTimes + 1} {
		t.Run(fmt.Sprint(trims), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j, _ := start(t, Options{Dir: dir, SegmentBytes: 16 << 10, Flush: FlushNone}, Resume{})
			go drain(j) // until it is closed
			text := strings.Repeat("x", 4<<10)
			fill := func() {
				for range 16 { // some segments
					if err := put(t, j, batch(1, text)); err != nil {
						t.Fatal(err)
					}
				}
			}
			fill()
			again, left := 0, trims
			first := true
			rep, err := Verify(Options{Dir: dir}, nil, func(b *Batch) {
				switch {
				case b == nil:
					again, first = again+1, true
				case first && left > 0:
					first = false
					left--
					fill()
					if err := j.Trim(j.Last()-1, nil); err != nil {
						t.Fatal(err)
					}
				}
			})
			switch {
			case trims == 2 && (err != nil || again != 2 || rep.Last != j.Last()):
				t.Errorf("read again %d times: %v", again, err)
			case trims > 2 && (err == nil || again != verifyTimes):
				t.Errorf("read again %d times: %v", again, err)
			}
		})
	}
}
