package load

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// payload is one telemetry message of exactly size bytes: JSON whose numbers
// nobody can guess, so that it compresses about as well as real ones do.
func payload(rng *rand.Rand, size int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":"%016x"`, rng.Uint64())
	for i := 0; b.Len() < size-1; i++ {
		fmt.Fprintf(&b, `,"s%02d":%.3f`, i, rng.Float64()*100)
	}
	return []byte(b.String()[:size-1] + "}")
}
