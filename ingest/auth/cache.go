package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

const (
	maxVerified = 8192            // of each half of the cache; 10,000 devices that reconnect are found
	verifiedFor = 5 * time.Minute // at least; at most twice that
)

// A cacheKey stands for a user and a password. Without the key of the process, a
// core dump that holds it does not help to guess them.
type cacheKey [sha256.Size]byte

// A cache remembers which passwords were right, so that a fleet that reconnects
// does not cost a check each. It has two halves; what is added goes into the young
// one, and from time to time the old one is dropped and the young one becomes old.
type cache struct {
	secret [sha256.Size]byte
	max    int
	life   time.Duration

	mu    sync.Mutex // guards what follows
	young map[cacheKey]struct{}
	old   map[cacheKey]struct{}
	since time.Time // the age of young
}

func newCache(maxEntries int, life time.Duration) *cache {
	c := &cache{max: maxEntries, life: life, young: map[cacheKey]struct{}{}, since: time.Now()}
	_, _ = rand.Read(c.secret[:]) // never fails
	return c
}

func (c *cache) key(user string, password []byte) (k cacheKey) {
	mac := hmac.New(sha256.New, c.secret[:])
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(user)))
	_, _ = mac.Write(size[:]) // a hash does not fail
	_, _ = mac.Write([]byte(user))
	_, _ = mac.Write(password)
	mac.Sum(k[:0])
	return k
}

func (c *cache) has(k cacheKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age()
	_, isYoung := c.young[k]
	_, isOld := c.old[k]
	return isYoung || isOld
}

func (c *cache) add(k cacheKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age()
	if len(c.young) >= c.max {
		c.turn()
	}
	c.young[k] = struct{}{}
}

// age drops what is too old. The caller holds mu.
func (c *cache) age() {
	switch passed := time.Since(c.since); {
	case passed >= 2*c.life:
		c.turn()
		c.turn()
	case passed >= c.life:
		c.turn()
	}
}

func (c *cache) turn() { c.old, c.young, c.since = c.young, map[cacheKey]struct{}{}, time.Now() }
