package dev.evalops.runtime.redis;

import io.lettuce.core.resource.ClientResources;
import io.lettuce.core.resource.DefaultClientResources;
import io.lettuce.core.resource.NettyCustomizer;
import io.netty.bootstrap.Bootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import java.time.Duration;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Closes a connection whose server answers nothing, at the next command, so that Lettuce makes another: a server that
 * is stopped or cut off keeps its connections, and nobody tells of one that the network has forgotten. Used in the
 * channel's thread alone.
 */
final class Silence extends ChannelDuplexHandler {
  private static final Logger LOG = LoggerFactory.getLogger(Redis.class);

  private final long limitNanos;
  private boolean unanswered;
  private long since; // the first command after the last bytes from the server

  private Silence(long limitNanos) {
    this.limitNanos = limitNanos;
  }

  /**
   * The resources with this in every connection.
   *
   * @param commandTimeout half of the time for which a server may leave commands unanswered; zero for no limit
   */
  static ClientResources limited(DefaultClientResources.Builder builder, Duration commandTimeout) {
    long timeout = Clients.bounded(commandTimeout).toNanos();
    return timeout == 0 || timeout > Long.MAX_VALUE / 2
        ? builder.build()
        : new Resources(builder, 2 * timeout);
  }

  /** Lettuce's {@code mutate} would lose the threads of the builder. */
  private static final class Resources extends DefaultClientResources {
    private final long limitNanos;

    Resources(Builder builder, long limitNanos) {
      super(builder);
      this.limitNanos = limitNanos;
    }

    @Override
    public NettyCustomizer nettyCustomizer() {
      NettyCustomizer others = super.nettyCustomizer();
      return new NettyCustomizer() {
        @Override
        public void afterBootstrapInitialized(Bootstrap bootstrap) {
          others.afterBootstrapInitialized(bootstrap);
        }

        @Override
        public void afterChannelInitialized(Channel channel) {
          others.afterChannelInitialized(channel);
          channel.pipeline().addFirst(new Silence(limitNanos));
        }
      };
    }
  }

  @Override
  public void channelRead(ChannelHandlerContext context, Object bytes) {
    unanswered = false;
    context.fireChannelRead(bytes);
  }

  @Override
  public void write(ChannelHandlerContext context, Object bytes, ChannelPromise promise) {
    var unused = context.write(bytes, promise); // who writes has the promise
    long now = System.nanoTime();
    if (!unanswered) {
      unanswered = true;
      since = now;
    } else if (now - since > limitNanos) {
      unanswered = false;
      Channel channel = context.channel();
      LOG.atWarn()
          .addKeyValue("server", channel.remoteAddress())
          .log("redis: server does not answer; reconnecting");
      channel.eventLoop().execute(() -> {
        var unusedClose = channel.close();
      });
    }
  }
}
