//! The U-Net and the autoencoder of Stable Diffusion XL as diffusers names their tensors. Nothing of them has a role, so
//! their sizes are those of the one model.

use super::{Content, List};

/// Channels of the U-Net by level, and transformer blocks of an attention there.
const LEVELS: [(u64, u64); 3] = [(320, 0), (640, 2), (1280, 10)];
/// Dimensions of the text, of a step's embedding, and of what is added to that.
const TEXT: u64 = 2048;
const STEP: u64 = 1280;
const ADDED: u64 = 2816;
/// Channels of a latent image.
const LATENT: u64 = 4;
/// Channels of the autoencoder by level, and of an image.
const CODER: [u64; 4] = [128, 256, 512, 512];
const COLOURS: u64 = 3;

impl List<'_> {
    fn bias_less(&mut self, name: &str, shape: &[u64]) {
        self.plain(format!("{name}.weight"), shape, Content::NotRead);
    }

    fn linear_with_bias(&mut self, name: &str, rows: u64, columns: u64) {
        self.bias_less(name, &[rows, columns]);
        self.plain(format!("{name}.bias"), &[rows], Content::Bias);
    }

    fn convolution(&mut self, name: &str, [to, from]: [u64; 2], width: u64) {
        self.bias_less(name, &[to, from, width, width]);
        self.plain(format!("{name}.bias"), &[to], Content::Bias);
    }

    fn norm(&mut self, name: &str, channels: u64) {
        self.plain(format!("{name}.weight"), &[channels], Content::Gain(0.5));
        self.plain(format!("{name}.bias"), &[channels], Content::Bias);
    }

    /// A residual block from so many channels to others, which a step's embedding may steer.
    fn residual(&mut self, at: &str, [from, to]: [u64; 2], step: Option<u64>) {
        self.norm(&format!("{at}.norm1"), from);
        self.convolution(&format!("{at}.conv1"), [to, from], 3);
        if let Some(step) = step {
            self.linear_with_bias(&format!("{at}.time_emb_proj"), to, step);
        }
        self.norm(&format!("{at}.norm2"), to);
        self.convolution(&format!("{at}.conv2"), [to, to], 3);
        if from != to {
            self.convolution(&format!("{at}.conv_shortcut"), [to, from], 1);
        }
    }

    /// An attention of the U-Net, to itself and to the text.
    fn transformer(&mut self, at: &str, c: u64, blocks: u64) {
        self.norm(&format!("{at}.norm"), c);
        self.linear_with_bias(&format!("{at}.proj_in"), c, c);
        for block in 0..blocks {
            let at = format!("{at}.transformer_blocks.{block}");
            for (i, from) in [(1, c), (2, TEXT)] {
                self.norm(&format!("{at}.norm{i}"), c);
                for (part, from) in [("to_q", c), ("to_k", from), ("to_v", from)] {
                    self.bias_less(&format!("{at}.attn{i}.{part}"), &[c, from]);
                }
                self.linear_with_bias(&format!("{at}.attn{i}.to_out.0"), c, c);
            }
            self.norm(&format!("{at}.norm3"), c);
            self.linear_with_bias(&format!("{at}.ff.net.0.proj"), 8 * c, c);
            self.linear_with_bias(&format!("{at}.ff.net.2"), c, 4 * c);
        }
        self.linear_with_bias(&format!("{at}.proj_out"), c, c);
    }

    pub(super) fn unet(&mut self) {
        let [(first, _), .., (deepest, blocks)] = LEVELS;
        self.convolution("conv_in", [first, LATENT], 3);
        for (name, from) in [("time_embedding", first), ("add_embedding", ADDED)] {
            self.linear_with_bias(&format!("{name}.linear_1"), STEP, from);
            self.linear_with_bias(&format!("{name}.linear_2"), STEP, STEP);
        }
        let mut from = first;
        // Channels of what each step down hands to its counterpart up.
        let mut skipped = vec![first];
        for (level, (c, blocks)) in LEVELS.into_iter().enumerate() {
            let at = format!("down_blocks.{level}");
            for i in 0..2 {
                self.residual(&format!("{at}.resnets.{i}"), [from, c], Some(STEP));
                if blocks > 0 {
                    self.transformer(&format!("{at}.attentions.{i}"), c, blocks);
                }
                from = c;
                skipped.push(c);
            }
            if level + 1 < LEVELS.len() {
                self.convolution(&format!("{at}.downsamplers.0.conv"), [c, c], 3);
                skipped.push(c);
            }
        }
        self.residual("mid_block.resnets.0", [deepest, deepest], Some(STEP));
        self.transformer("mid_block.attentions.0", deepest, blocks);
        self.residual("mid_block.resnets.1", [deepest, deepest], Some(STEP));
        for (level, (c, blocks)) in LEVELS.into_iter().rev().enumerate() {
            let at = format!("up_blocks.{level}");
            for i in 0..3 {
                let joined = from + skipped.pop().unwrap_or_default();
                self.residual(&format!("{at}.resnets.{i}"), [joined, c], Some(STEP));
                if blocks > 0 {
                    self.transformer(&format!("{at}.attentions.{i}"), c, blocks);
                }
                from = c;
            }
            if level + 1 < LEVELS.len() {
                self.convolution(&format!("{at}.upsamplers.0.conv"), [c, c], 3);
            }
        }
        self.norm("conv_norm_out", first);
        self.convolution("conv_out", [LATENT, first], 3);
    }

    /// The middle of an encoder or decoder.
    fn middle(&mut self, at: &str, c: u64) {
        self.residual(&format!("{at}.mid_block.resnets.0"), [c, c], None);
        let attention = format!("{at}.mid_block.attentions.0");
        self.norm(&format!("{attention}.group_norm"), c);
        for part in ["to_q", "to_k", "to_v", "to_out.0"] {
            self.linear_with_bias(&format!("{attention}.{part}"), c, c);
        }
        self.residual(&format!("{at}.mid_block.resnets.1"), [c, c], None);
    }

    pub(super) fn autoencoder(&mut self) {
        let [first, .., last] = CODER;
        self.convolution("encoder.conv_in", [first, COLOURS], 3);
        let mut from = first;
        for (level, c) in CODER.into_iter().enumerate() {
            let at = format!("encoder.down_blocks.{level}");
            for i in 0..2 {
                self.residual(&format!("{at}.resnets.{i}"), [from, c], None);
                from = c;
            }
            if level + 1 < CODER.len() {
                self.convolution(&format!("{at}.downsamplers.0.conv"), [c, c], 3);
            }
        }
        self.middle("encoder", last);
        self.norm("encoder.conv_norm_out", last);
        self.convolution("encoder.conv_out", [2 * LATENT, last], 3);
        self.convolution("decoder.conv_in", [last, LATENT], 3);
        self.middle("decoder", last);
        for (level, c) in CODER.into_iter().rev().enumerate() {
            let at = format!("decoder.up_blocks.{level}");
            for i in 0..3 {
                self.residual(&format!("{at}.resnets.{i}"), [from, c], None);
                from = c;
            }
            if level + 1 < CODER.len() {
                self.convolution(&format!("{at}.upsamplers.0.conv"), [c, c], 3);
            }
        }
        self.norm("decoder.conv_norm_out", first);
        self.convolution("decoder.conv_out", [COLOURS, first], 3);
        self.convolution("quant_conv", [2 * LATENT, 2 * LATENT], 1);
        self.convolution("post_quant_conv", [LATENT, LATENT], 1);
    }
}
