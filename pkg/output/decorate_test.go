package output

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
)

// TestColourOfDates says that a date with its time has one colour, in every locale and
// format that has colours: some locales put spaces into their dates, and -i one between
// date and time.
func TestColourOfDates(t *testing.T) {
	const log = "node=a type=SYSCALL msg=audit(1700000000.007:45): arch=c000003e syscall=59 success=yes exit=0 items=0 pid=1 key=612062\n" +
		"node=a type=CONFIG_CHANGE msg=audit(1700000001.007:46): op=add_rule key=612062 list=4 res=1\n"
	locales := []string{"C"}
	for _, l := range localeDates {
		locales = append(locales, strings.Fields(l.locales)[0])
	}
	for _, locale := range locales {
		for _, f := range []Format{FormatDefault, FormatInterpret} {
			var out bytes.Buffer
			w := NewWriter(&out, &Config{Format: f, Locale: locale, Color: true}, time.UTC)
			for _, ev := range eventtest.Parse([]byte(log)) {
				if err := w.Event(ev); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			stamps := regexp.MustCompile(`msg=\x1b\[0m(.*?) ?:? `).FindAllStringSubmatch(out.String(), -1)
			if want := regexp.MustCompile(`\x1b\[36maudit\([^\x1b]*4[56]\):?\x1b\[0m`); len(stamps) != 2 || len(want.FindAllString(out.String(), -1)) != 2 {
				t.Errorf("%s, %s: %q", locale, f, out.String())
			}
			if f == FormatInterpret && strings.Count(out.String(), styleHit+"a b"+styleReset) != 2 {
				t.Errorf("%s: the keys in %q", locale, out.String())
			}
		}
	}
	if !slices.ContainsFunc(locales, func(l string) bool { return strings.Contains(DateLayout(l), " ") }) {
		t.Error("no date with a space was tried")
	}
}
