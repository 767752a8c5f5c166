package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// optionsSchema is the keys that the file of --options may have: every flag, its hyphens
// as in the stock files' keys or as they are. One that the command line has, too, has no
// effect and is warned of.
func (o *runFlags) optionsSchema(flags *pflag.FlagSet) (schema conf.Schema) {
	for s := range o.table().All() {
		if s.In == settings.FlagOnly {
			continue
		}
		k, flag := s.Key, settings.FlagName(s.Name)
		if k.Loose != nil {
			k.Set = k.Loose
		}
		if flags.Changed(flag) {
			k.Note = func(string) string { return "has no effect: the command line has --" + flag }
		}
		for _, k.Name = range slices.Compact([]string{s.Name, flag}) {
			schema = append(schema, k)
		}
	}
	return schema
}

// readOptions reads the file of --options, for a plugin's file has room for two arguments
// only. The command line goes before it.
func (o *runFlags) readOptions(flags *pflag.FlagSet) error {
	if o.options == "" {
		return nil
	}
	f, err := conf.LoadSecure(o.options, o.optionsSchema(flags))
	if err != nil {
		return command.Refused(fmt.Errorf("--options: %w", err))
	}
	o.optionsFile, o.typed = f, flags.Changed
	return o.table().Apply(flags)
}

// given returns a function that reports whether a flag was given, or its key in the file
// of --options.
func (o *runFlags) given(flags *pflag.FlagSet) func(flag string) bool {
	return func(flag string) bool {
		return flags.Changed(flag) || o.optionsFile.Has(flag) || o.optionsFile.Has(strings.ReplaceAll(flag, "-", "_"))
	}
}

var flagFirst = regexp.MustCompile(`^--([a-z-]+)`)

// placed adds file and line to an error about a value that the file of --options has.
func (o *runFlags) placed(err error) error {
	return settings.Placed(err, o.optionsFile, o.table(), func(flag string) bool { return o.typed != nil && o.typed(flag) })
}

// placedFlag is placed for an error of a program that has run: only one that begins with a flag is
// about the file.
func (o *runFlags) placedFlag(err error) error {
	m := flagFirst.FindStringSubmatch(fmt.Sprint(err))
	if m == nil {
		return err
	}
	for _, key := range []string{m[1], strings.ReplaceAll(m[1], "-", "_")} {
		if line := o.optionsFile.Line(key); line > 0 {
			return fmt.Errorf("%s:%d: %w", o.optionsFile.Path, line, err)
		}
	}
	return err
}

// dispatchers start plugins, and start them again when they end.
var dispatchers = []string{"auditd", "audispd", "forwarder", "collector"}

// underDispatcher reports whether an audit daemon has started us.
func underDispatcher() bool {
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(os.Getppid()), "comm"))
	return err == nil && slices.Contains(dispatchers, strings.TrimSpace(string(comm)))
}
