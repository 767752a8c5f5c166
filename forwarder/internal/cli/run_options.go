package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// optionsSchema has every flag as a key, its hyphens as in the stock files' keys or as
// they are. What the command line says goes before the file.
func optionsSchema(flags *pflag.FlagSet) (schema conf.Schema) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "options" || f.Name == "help" || f.Name == "version" {
			return
		}
		given := f.Changed
		k := conf.Key{Set: func(value string) error {
			if given {
				return nil
			}
			if f.Value.Type() == "bool" {
				switch strings.ToLower(value) {
				case "yes":
					value = "true"
				case "no":
					value = "false"
				}
			}
			return flags.Set(f.Name, value)
		}, Note: func(string) string {
			if given {
				return "has no effect: the command line has --" + f.Name
			}
			return ""
		}}
		for _, name := range slices.Compact([]string{strings.ReplaceAll(f.Name, "-", "_"), f.Name}) {
			k.Name = name
			schema = append(schema, k)
		}
	})
	return schema
}

// readOptions takes the flags that the file of --options has: a plugin's file has room
// for two arguments only.
func (o *runFlags) readOptions(flags *pflag.FlagSet) error {
	if o.options == "" {
		return nil
	}
	f, err := conf.LoadSecure(o.options, optionsSchema(flags))
	if err != nil {
		return fmt.Errorf("--options: %w", err)
	}
	o.optionsFile = f
	return nil
}

// sayOptions warns of what the file has to no effect.
func (o *runFlags) sayOptions(logger hclog.Logger) {
	if o.optionsFile != nil {
		warn(o.optionsFile, logger)
	}
}

var flagFirst = regexp.MustCompile(`^--([a-z-]+)`)

// placed adds file and line to an error about a flag that the file of --options set.
func (o *runFlags) placed(err error) error {
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
