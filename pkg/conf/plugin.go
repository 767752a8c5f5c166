package conf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// PluginType says how a plugin runs.
type PluginType string

// The plugin types of auditd-plugins(5).
const (
	PluginAlways  PluginType = "always"
	PluginBuiltin PluginType = "builtin"
)

// Plugin holds the values of a file of plugins.d, see auditd-plugins(5).
type Plugin struct {
	Name      string // file name without .conf
	Active    bool
	Direction string // out, or in, which nothing supports
	Path      string // absolute, or the name of a builtin
	Type      PluginType
	Args      []string // at most 2 for the stock daemon; we take more
	Format    Format
}

// DefaultPlugin returns the values that the stock daemon assumes for keys that are not
// set.
func DefaultPlugin() Plugin {
	return Plugin{Direction: "out", Type: PluginAlways, Format: FormatString}
}

// Schema returns the keys of a plugin file; each stores its value in p.
func (p *Plugin) Schema() Schema {
	args := Key{Name: "args", Words: -1, Empty: func() { p.Args = nil }, Set: func(v string) error {
		p.Args = strings.Fields(v)
		return nil
	}}
	return Schema{
		YesNo("active", &p.Active),
		Enum("direction", &p.Direction, "out", "in"),
		Word("path", &p.Path),
		Enum("type", &p.Type, PluginAlways, PluginBuiltin),
		args,
		Enum("format", &p.Format, FormatString, FormatBinary),
	}
}

// LoadPlugin reads one file with LoadLinked, because the stock daemon follows links
// there, too.
func LoadPlugin(path string) (Plugin, *File, error) {
	p := DefaultPlugin()
	p.Name = strings.TrimSuffix(filepath.Base(path), ".conf")
	f, err := LoadLinked(path, p.Schema())
	if f == nil {
		return p, nil, err
	}
	return p, f, p.Validate(f)
}

// Validate checks rules that concern several keys and returns all errors of f. It checks
// the plugin's program only if the plugin is active.
func (p *Plugin) Validate(f *File) error {
	switch {
	case p.Path == "":
		f.Errorf("path", "is missing")
	case p.Type == PluginBuiltin:
	case !filepath.IsAbs(p.Path):
		f.Errorf("path", "%q is not an absolute path", clip(p.Path))
	case p.Active:
		if err := Executable(p.Path); err != nil {
			f.Errorf("path", "%v", err)
		}
	}
	return f.Err()
}

// LoadPlugins reads the plugin files of the folder dir in the order of their names. As
// the stock daemon does, it skips hidden files and files with more than one dot in their
// name, which are backups. It returns the valid plugins even if other files have errors;
// the error joins those of all files.
func LoadPlugins(dir string) ([]Plugin, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	var plugins []Plugin
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || strings.Count(name, ".") > 1 {
			continue
		}
		p, _, err := LoadPlugin(filepath.Join(dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		plugins = append(plugins, p)
	}
	return plugins, errors.Join(errs...)
}
