package cli

import "github.com/auditfleet/auditfleet/pkg/settings"

// reload reads the configuration file again, with the flags that the collector was started
// with, and applies it. It returns the keys that have changed and take effect only after a
// restart. A configuration that is wrong changes nothing.
func (a *administered) reload() (waiting []string, err error) {
	o, f, err := configure(a.flags)
	if err != nil {
		a.s.NotReconfigured()
		return nil, err
	}
	if err := a.s.Reconfigure(o.server); err != nil {
		return nil, err
	}
	warnOfFile(a.log, f, o.table())
	return settings.Changed(a.began.table(), o.table()), nil
}
