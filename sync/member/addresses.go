package member

import (
	"slices"
	"sync"
)

// mostAddresses bounds what Addresses remembers.
const mostAddresses = 64

// Addresses remembers where nodes have been, for Config.Known and Config.Learned:
// the newest 64. Its methods may be called at once.
type Addresses struct {
	mu  sync.Mutex
	all []string
}

// Known is a Config's Known.
func (a *Addresses) Known() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// Learned is a Config's Learned.
func (a *Addresses) Learned(addresses []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, address := range addresses {
		if !slices.Contains(a.all, address) {
			a.all = append(a.all, address)
		}
	}
	a.all = a.all[max(0, len(a.all)-mostAddresses):]
}
